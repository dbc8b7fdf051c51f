"""eGeMAPS by openSMILE."""
