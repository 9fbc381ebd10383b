FROM a AS A-b_c.9
FROM a AS scratch
FROM a AS a-B_c.9
