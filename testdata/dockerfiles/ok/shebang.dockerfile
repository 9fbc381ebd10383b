#!/usr/bin/env -S rbuild -f
# escape=`
FROM a
