"""What happened in a period, from the audit trail: figures, plots, one page of HTML. Pure: records in, text out."""
