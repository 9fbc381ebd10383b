{"syntax": "example/other",
 "x": 1}
