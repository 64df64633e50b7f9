package cluster

import (
	"fmt"
	"strings"
)

const proxyHead = `
global
  maxconn 4000
defaults
  mode tcp
  retries 3
  option redispatch
  timeout connect 3s
  timeout client 40m
  timeout server 40m
  timeout check 2s
  default-server inter 1s fall 2 rise 1
`

// doors are the ports of the proxy, which are those of the nodes.
var doors = []struct {
	name string
	port int
}{{"smtp", 25}, {"lmtp", 24}, {"submission", 587}, {"imaps", 993}}

// startProxy starts HAProxy: in front of the nodes, with their own word whether they are
// ready, and of the databases, with Patroni's word which one is the primary.
func (l *Lab) startProxy() error {
	var b strings.Builder
	b.WriteString(proxyHead)
	for _, d := range doors {
		fmt.Fprintf(&b, "listen %s\n  bind :%d\n  balance roundrobin\n  option httpchk GET /readyz\n", d.name, d.port)
		for _, n := range l.Nodes {
			fmt.Fprintf(&b, "  server %s %s:%d check port 80 send-proxy-v2\n", n.Name, n.IPv4, d.port)
		}
		// Where no node can reach the database, each can still say so.
		b.WriteString("  option allbackups\n")
		for _, n := range l.Nodes {
			fmt.Fprintf(&b, "  server %s-anyhow %s:%d backup send-proxy-v2\n", n.Name, n.IPv4, d.port)
		}
	}
	b.WriteString("listen postgres\n  bind :5432\n  option httpchk GET /primary\n  default-server on-marked-down shutdown-sessions\n")
	for _, d := range l.Databases {
		fmt.Fprintf(&b, "  server %s %s:5432 check port 8008\n", d.Name, d.address())
	}
	conf, err := write(l.Proxy.Host, "haproxy.cfg", b.String())
	if err != nil {
		return err
	}
	l.Proxy.args = []string{"haproxy", "-db", "-f", conf}
	l.Proxy.ready = l.Proxy.Host.Answers(l.Proxy.Host.IPv4.String() + ":25")
	return l.Proxy.Start()
}
