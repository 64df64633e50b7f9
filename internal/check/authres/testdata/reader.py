# Reads Authentication-Results fields with the authres module: each line is a field as JSON,
# each answer [authserv-id, [[method, result, reason, [[ptype, property, value]...]]...]].
import json, sys
import authres

for line in sys.stdin:
    try:
        f = authres.AuthenticationResultsHeader.parse(json.loads(line))
        print(json.dumps([f.authserv_id, [[r.method, r.result, r.reason, [[p.type, p.name, p.value] for p in r.properties]] for r in f.results]]), flush=True)
    except Exception as e:
        print(json.dumps(["error: " + str(e), []]), flush=True)
