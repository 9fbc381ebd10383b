# check=skp=all;error=maybe;x
FROM a
