"""The fault campaign: processes are killed, files damaged and disks filled (`make faults`)."""
