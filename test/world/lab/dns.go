package lab

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/test/peers/process"
)

// Addresses of the world's name servers: the one that knows all zones, and the resolver
// that everybody asks.
const (
	authority4 = "198.20.1.10"
	authority6 = "3ffe:db8:1::10"
	Resolver4  = "198.20.2.10"
)

// UpdateKey is the TSIG key (hmac-sha256) that may change and transfer every zone at
// UpdateServer (RFC 2136, RFC 8945).
const (
	UpdateKey    = "update."
	UpdateSecret = "dGhpcyBrZXkgb3BlbnMgYWxsIHpvbmVzIG9mIHRoZSBsYWI="
	UpdateServer = authority4 + ":53"
)

// Trust says what DNSSEC makes of a zone.
type Trust int

const (
	Signed   Trust = iota // and its parent says so
	Insecure              // not signed
	Bogus                 // signed, with another key than its parent says
)

// Zone is one zone and how it is served.
type Zone struct {
	Name  string
	Trust Trust
	Text  string // more of its file, as somebody writes it by hand
}

// the zones that are always there. Parents come first.
var (
	reverse4 = "20.198.in-addr.arpa."
	reverse6 = "8.b.d.0.e.f.f.3.ip6.arpa."
	ground   = []Zone{{Name: "."}, {Name: "example."}, {Name: reverse4}, {Name: reverse6}}
)

// DNS is the name server that has every zone, by Knot, and the resolver, by Unbound.
type DNS struct {
	Server   *Host // authoritative
	Resolver *Host // validating

	world *World
	zones []Zone
	knot  *process.Process

	unbound *process.Process
}

func newDNS(w *World) (d *DNS, err error) {
	d = &DNS{world: w}
	if d.Server, err = w.connect("ns.example", Place{Number: 1}); err != nil {
		return nil, err
	}
	if d.Resolver, err = w.connect("resolver.example", Place{Number: 2}); err != nil {
		return nil, err
	}
	if err = d.AddZones(ground...); err != nil {
		return nil, err
	}
	if err = d.publish(d.Server, nil); err != nil {
		return nil, err
	}
	if err = d.publish(d.Resolver, nil); err != nil {
		return nil, err
	}
	return d, d.startResolver()
}

const knotConf = `server:
    rundir: %[1]s
    pidfile: %[1]s/knot.pid
    user: root:root
    listen: [%[2]s@53, %[3]s@53]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: %[1]s/knot.log
    any: info
database:
    storage: %[1]s
key:
  - id: %[4]s
    algorithm: hmac-sha256
    secret: %[5]s
acl:
  - id: update
    key: %[4]s
    action: [update, transfer]
policy:
  - id: one
    single-type-signing: on
    algorithm: ecdsap256sha256
template:
  - id: default
    storage: %[1]s/zones
    zonefile-sync: -1
    acl: update
zone:
`

// AddZones serves more zones. A zone's parent must be there, or come before it.
func (d *DNS) AddZones(zones ...Zone) error {
	dir := d.Server.Dir
	if err := os.MkdirAll(filepath.Join(dir, "zones"), 0o755); err != nil {
		return err
	}
	for i := range zones {
		zones[i].Name = dns.CanonicalName(zones[i].Name)
		text := "@ 3600 IN SOA ns.example. hostmaster.example. 1 3600 600 86400 60\n@ 3600 IN NS ns.example.\n"
		if slices.Contains([]string{".", "example."}, zones[i].Name) { // glue, so that there is a way in
			text += fmt.Sprintf("ns.example. 3600 IN A %s\nns.example. 3600 IN AAAA %s\n", authority4, authority6)
		}
		text += zones[i].Text
		if err := os.WriteFile(d.file(zones[i].Name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	d.zones = append(d.zones, zones...)
	conf := fmt.Sprintf(knotConf, dir, authority4, authority6, UpdateKey, UpdateSecret)
	for _, z := range d.zones {
		conf += fmt.Sprintf("  - domain: %s\n    file: %s\n", z.Name, d.file(z.Name))
		if z.Trust != Insecure {
			conf += "    dnssec-signing: on\n    dnssec-policy: one\n"
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "knot.conf"), []byte(conf), 0o644); err != nil {
		return err
	}
	if err := d.serve(); err != nil {
		return err
	}
	for _, z := range zones {
		if err := d.delegate(z); err != nil {
			return err
		}
	}
	return nil
}

func (d *DNS) file(zone string) string {
	return filepath.Join(d.Server.Dir, "zones", strings.ReplaceAll("zone."+zone, "..", "."))
}

// serve starts the name server, or has it read its configuration again.
func (d *DNS) serve() (err error) {
	ready := func() bool {
		for _, z := range d.zones {
			if r, err := d.ask(z.Name, dns.TypeSOA); err != nil || len(r.Answer) == 0 {
				return false
			}
		}
		return true
	}
	if d.knot == nil {
		d.knot, err = d.Server.Serve(ready, "knotd", "-c", filepath.Join(d.Server.Dir, "knot.conf"))
		return err
	}
	if _, err := d.Server.Output("knotc", "-c", filepath.Join(d.Server.Dir, "knot.conf"), "-s", filepath.Join(d.Server.Dir, "knot.sock"), "reload"); err != nil {
		return err
	}
	return wait("the new zones", ready)
}

// delegate tells the zone's parent of it.
func (d *DNS) delegate(z Zone) error {
	if z.Name == "." {
		return nil
	}
	if z.Name != "example." { // whose delegation has its glue from the start
		if err := d.Add(z.Name+" 3600 IN NS ns.example.", d.parent(z.Name)); err != nil {
			return err
		}
	} else if err := d.Add("example. 3600 IN NS ns.example.", "."); err != nil {
		return err
	}
	if z.Trust == Insecure {
		return nil
	}
	keys, err := d.keys(z.Name)
	if err != nil {
		return err
	}
	ds := keys[0].ToDS(dns.SHA256)
	if z.Trust == Bogus {
		ds.Digest = strings.Repeat("0", len(ds.Digest))
	}
	ds.Hdr.Ttl = 3600
	return d.Add(ds.String(), d.parent(z.Name))
}

// keys returns the keys of a zone that is signed.
func (d *DNS) keys(zone string) (keys []*dns.DNSKEY, err error) {
	err = wait("the signatures of "+zone, func() bool {
		r, err := d.ask(zone, dns.TypeDNSKEY)
		if err != nil {
			return false
		}
		keys = nil
		for _, rr := range r.Answer {
			if k, ok := rr.(*dns.DNSKEY); ok {
				keys = append(keys, k)
			}
		}
		return len(keys) > 0
	})
	return keys, err
}

// parent is the closest zone above.
func (d *DNS) parent(zone string) string { return d.zoneOf(zone, false) }

// zoneOf is the zone that a name lies in.
func (d *DNS) zoneOf(name string, itself bool) string {
	best := "."
	for _, z := range d.zones {
		if dns.IsSubDomain(z.Name, name) && len(z.Name) > len(best) && (itself || z.Name != name) {
			best = z.Name
		}
	}
	return best
}

// ask asks the name server itself.
func (d *DNS) ask(name string, qtype uint16) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.SetEdns0(4096, true)
	return d.exchange(m)
}

func (d *DNS) exchange(m *dns.Msg) (*dns.Msg, error) {
	raw, err := d.Server.Dial(UpdateServer)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(10 * time.Second))
	c := &dns.Conn{Conn: raw, TsigSecret: map[string]string{UpdateKey: UpdateSecret}}
	if err := c.WriteMsg(m); err != nil {
		return nil, err
	}
	return c.ReadMsg()
}

// Add adds a record in the form of zone files, to the zone it lies in or the one given.
func (d *DNS) Add(record string, zone ...string) error {
	return d.change(record, zone, (*dns.Msg).Insert)
}

// Remove removes one record.
func (d *DNS) Remove(record string, zone ...string) error {
	return d.change(record, zone, (*dns.Msg).Remove)
}

// Clear removes all records of a name and type, such as "TXT".
func (d *DNS) Clear(name, qtype string) error {
	h := dns.RR_Header{Name: dns.CanonicalName(name), Rrtype: dns.StringToType[qtype], Class: dns.ClassINET}
	m := new(dns.Msg)
	m.SetUpdate(d.zoneOf(h.Name, true))
	m.RemoveRRset([]dns.RR{&dns.ANY{Hdr: h}})
	return d.update(m)
}

// Set makes these the records of a name and type.
func (d *DNS) Set(name, qtype string, data ...string) error {
	if err := d.Clear(name, qtype); err != nil {
		return err
	}
	for _, one := range data {
		if err := d.Add(fmt.Sprintf("%s 3600 IN %s %s", dns.Fqdn(name), qtype, one)); err != nil {
			return err
		}
	}
	return nil
}

// Get returns the data of all records of a name and type, as the name server has them.
func (d *DNS) Get(name, qtype string) (data []string, err error) {
	r, err := d.ask(dns.CanonicalName(name), dns.StringToType[qtype])
	if err != nil {
		return nil, err
	}
	for _, rr := range r.Answer {
		if h := rr.Header(); h.Rrtype == dns.StringToType[qtype] {
			data = append(data, strings.TrimSpace(strings.TrimPrefix(rr.String(), h.String())))
		}
	}
	return data, nil
}

// AddAll adds records of a zone file, one a line. Empty lines and comments are skipped.
func (d *DNS) AddAll(records string) error {
	for line := range strings.Lines(records) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, ";") || strings.HasPrefix(line, "$") {
			continue
		}
		if err := d.Add(line); err != nil {
			return err
		}
	}
	return nil
}

func (d *DNS) change(record string, zone []string, how func(*dns.Msg, []dns.RR)) error {
	rr, err := dns.NewRR(record)
	if err != nil || rr == nil {
		return fmt.Errorf("%q is no record: %w", record, err)
	}
	zone = append(zone, d.zoneOf(dns.CanonicalName(rr.Header().Name), true))
	m := new(dns.Msg)
	m.SetUpdate(zone[0])
	how(m, []dns.RR{rr})
	return d.update(m)
}

func (d *DNS) update(m *dns.Msg) error {
	m.SetTsig(UpdateKey, dns.HmacSHA256, 300, time.Now().Unix())
	r, err := d.exchange(m)
	if err != nil {
		return err
	}
	if r.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("the zone %s is not changed: %s", m.Question[0].Name, dns.RcodeToString[r.Rcode])
	}
	return d.forget()
}

// forget empties the resolver's cache: what lives for no time is kept until the end of
// the second.
func (d *DNS) forget() error {
	if d.unbound == nil {
		return nil
	}
	c, err := net.Dial("unix", filepath.Join(d.Resolver.Dir, "control"))
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprint(c, "UBCT1 flush_zone .\n"); err != nil {
		return err
	}
	said, err := io.ReadAll(c)
	if err == nil && !strings.HasPrefix(string(said), "ok") {
		err = fmt.Errorf("the resolver does not forget: %s", said)
	}
	return err
}

// publish makes a host's addresses and the way back known.
func (d *DNS) publish(h *Host, alias []string) error {
	for _, name := range append([]string{h.Name}, alias...) {
		if err := d.Set(name, "A", h.IPv4.String()); err != nil {
			return err
		}
		if h.IPv6.IsValid() {
			if err := d.Set(name, "AAAA", h.IPv6.String()); err != nil {
				return err
			}
		}
	}
	for _, ip := range []string{h.IPv4.String(), h.IPv6.String()} {
		if back, err := dns.ReverseAddr(ip); err == nil {
			if err := d.Set(back, "PTR", dns.Fqdn(h.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

const unboundConf = `server:
    interface: 0.0.0.0
    interface: ::0
    access-control: 0.0.0.0/0 allow
    access-control: ::0/0 allow
    do-daemonize: no
    username: ""
    chroot: ""
    pidfile: ""
    directory: "%[1]s"
    logfile: "%[1]s/unbound.log"
    use-syslog: no
    verbosity: 1
    val-log-level: 2
    root-hints: "%[1]s/hints"
    trust-anchor-file: "%[1]s/anchor"
    # What is changed is to be seen at once, here and by who asks.
    cache-max-ttl: 0
    cache-max-negative-ttl: 0
    aggressive-nsec: no
    infra-host-ttl: 5
    local-zone: "%[2]s" nodefault
    target-fetch-policy: "0 0 0 0 0"
remote-control:
    control-enable: yes
    control-interface: "%[1]s/control"
`

func (d *DNS) startResolver() error {
	dir := d.Resolver.Dir
	keys, err := d.keys(".")
	if err != nil {
		return err
	}
	var anchor strings.Builder
	for _, k := range keys {
		fmt.Fprintln(&anchor, k)
	}
	for name, text := range map[string]string{
		"anchor":       anchor.String(),
		"hints":        fmt.Sprintf(". 3600 IN NS ns.example.\nns.example. 3600 IN A %s\nns.example. 3600 IN AAAA %s\n", authority4, authority6),
		"unbound.conf": fmt.Sprintf(unboundConf, dir, reverse6),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	d.unbound, err = d.Resolver.Serve(d.Resolver.Answers(net.JoinHostPort(Resolver4, "53")), "unbound", "-c", filepath.Join(dir, "unbound.conf"))
	return err
}

// Ask asks the resolver, as a host's program would: the answer says AD if it is
// authentic.
func (d *DNS) Ask(name string, qtype uint16) (*dns.Msg, error) {
	raw, err := d.Resolver.Dial(net.JoinHostPort(Resolver4, "53"))
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(20 * time.Second))
	m := new(dns.Msg)
	m.SetQuestion(dns.CanonicalName(name), qtype)
	m.SetEdns0(4096, false)
	m.AuthenticatedData = true
	c := &dns.Conn{Conn: raw}
	if err := c.WriteMsg(m); err != nil {
		return nil, err
	}
	return c.ReadMsg()
}

// Stop and Go have the name server answer nobody, and answer again.
func (d *DNS) Stop() { syscall.Kill(-d.knot.PID, syscall.SIGSTOP) }
func (d *DNS) Go()   { syscall.Kill(-d.knot.PID, syscall.SIGCONT) }

// patience is how long the lab waits for what must come, on a busy machine too.
const patience = 60 * time.Second

// wait waits until something holds.
func wait(what string, holds func() bool) error { return Wait(what, patience, holds) }

// Wait waits until something holds, for so long at most.
func Wait(what string, most time.Duration, holds func() bool) error {
	for began := time.Now(); time.Since(began) < most; time.Sleep(20 * time.Millisecond) {
		if holds() {
			return nil
		}
	}
	return fmt.Errorf("%s: not within %s", what, most)
}
