FROM a AS 9b
FROM a AS b/c
FROM a AS -
