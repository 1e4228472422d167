"""The service as an operator has it: installed from the wheel, in a container that boots a real systemd."""
