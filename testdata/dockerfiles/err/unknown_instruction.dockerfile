FROM a
RUNX echo
FORM b
