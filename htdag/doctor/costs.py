COSTS = {"scan": "a", "guidance": "b", "negotiator": "c", "schedd_min": "d", "claims": "e"}
