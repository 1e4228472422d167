"""Putting the server on a host as a service, and taking it off again.

`steps` holds what there is to do, `layout` where each file goes and what is in it, `program` which program the units
start and whether they can. It must not know click, packets or rules.
"""
