# Asks pyspf: each line is JSON [ip, sender, helo], each answer its result.
import json, sys
import dns.resolver
import spf

server = dns.resolver.Resolver(configure=False)
host, port = sys.argv[1].rsplit(":", 1)
server.nameservers, server.port, server.lifetime = [host], int(port), 20
dns.resolver.override_system_resolver = None
dns.resolver.default_resolver = server
for line in sys.stdin:
    ip, sender, helo = json.loads(line)
    print(spf.check2(i=ip, s=sender, h=helo)[0], flush=True)
