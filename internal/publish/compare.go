package publish

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Resolver is what Compare asks. *dnsx.Client is one.
type Resolver interface {
	dnsx.Resolver
	LookupCAA(ctx context.Context, name string) ([]dnsx.CAA, dnsx.Info, error)
}

// Status says how a record in the DNS stands to one that should be there.
type Status string

const (
	Same    Status = "ok"      // there, or something as good
	Missing Status = "missing" // not there
	Wrong   Status = "wrong"   // something else is there in its place
	Extra   Status = "extra"   // there beside what should be, and does harm
	Unknown Status = "unknown" // the DNS did not answer
)

// Finding is one record and what the DNS says of it.
type Finding struct {
	Record
	Status Status   `json:"status"`
	Found  []string `json:"found,omitempty"`
	Note   string   `json:"note,omitempty"`
}

// Compare asks the DNS for records that should be there, and for those of stale that should
// not. Each has a finding, in the order given; what is there too much is told after that.
func Compare(ctx context.Context, res Resolver, want, stale []Record) []Finding {
	c := comparison{res: res, want: want}
	var all []Finding
	for _, r := range want {
		f := Finding{Record: r}
		c.one(ctx, &f)
		all = append(all, f)
	}
	all = append(all, c.extra...)
	for _, r := range stale {
		if texts, _, err := res.LookupTXT(ctx, r.Name); err == nil && len(texts) > 0 {
			all = append(all, Finding{Record: r, Status: Extra, Found: texts})
		}
	}
	return all
}

type comparison struct {
	res   Resolver
	want  []Record
	extra []Finding
}

// one fills in what is found.
func (c *comparison) one(ctx context.Context, f *Finding) {
	find := map[string]func(context.Context, *Finding) error{
		"MX": c.mx, "A": c.address, "AAAA": c.address, "TXT": c.txt, "CNAME": c.alias, "SRV": c.srv, "TLSA": c.tlsa, "CAA": c.caa, "PTR": c.ptr,
	}[f.Type]
	err := find(ctx, f)
	switch {
	case err == nil:
	case fault.Is(err, fault.NotFound):
		f.Status = Missing
	default:
		f.Status, f.Note = Unknown, err.Error()
	}
}

// set says ok or wrong.
func (f *Finding) set(ok bool, found ...string) {
	f.Found, f.Status = found, Wrong
	if ok {
		f.Status, f.Found = Same, nil
	}
}

// beside tells of what is there too much, once.
func (c *comparison) beside(f *Finding, value, note string) {
	e := Finding{Record: f.Record, Status: Extra, Found: []string{value}, Note: note}
	e.Value = value
	if !slices.ContainsFunc(c.extra, func(o Finding) bool { return o.Name == e.Name && o.Type == e.Type && o.Value == e.Value }) {
		c.extra = append(c.extra, e)
	}
}

func (c *comparison) mx(ctx context.Context, f *Finding) error {
	hosts, _, err := c.res.LookupMX(ctx, f.Name)
	if err != nil {
		return err
	}
	_, want, _ := strings.Cut(f.Value, " ")
	here := slices.ContainsFunc(hosts, func(m dnsx.MX) bool { return m.Host == want })
	var found []string
	for _, m := range hosts {
		text := fmt.Sprintf("%d %s", m.Preference, m.Host)
		found = append(found, text)
		if here && m.Host != want {
			c.beside(f, text, "some mail of the domain goes there; right if that host hands it on to this one (a backup MX), else take it out")
		}
	}
	f.set(here, found...)
	return nil
}

func (c *comparison) address(ctx context.Context, f *Finding) error {
	addrs, _, err := c.res.LookupIP(ctx, f.Name, f.Type == "AAAA")
	if err != nil {
		return err
	}
	var found []string
	here := false
	for _, a := range addrs {
		found = append(found, a.String())
		here = here || a.String() == f.Value
	}
	f.set(here, found...)
	for _, text := range found {
		if here && !c.wanted(f.Name, f.Type, text) {
			c.beside(f, text, "no address of this server; what is sent there is lost to it")
		}
	}
	return nil
}

func (c *comparison) wanted(name, kind, value string) bool {
	return slices.ContainsFunc(c.want, func(r Record) bool { return r.Name == name && r.Type == kind && r.Value == value })
}

// txt compares with the texts of the same purpose: others may be there for other ends.
func (c *comparison) txt(ctx context.Context, f *Finding) error {
	texts, _, err := c.res.LookupTXT(ctx, f.Name)
	if err != nil {
		return err
	}
	begin := purpose(f.Value)
	texts = slices.DeleteFunc(slices.Clone(texts), func(t string) bool {
		return begin != "" && purpose(t) != begin && !(begin == "v=dkim1" && purpose(t) == "")
	})
	if len(texts) == 0 {
		f.Status = Missing
		return nil
	}
	f.set(len(texts) == 1 && (sameText(texts[0], f.Value) || lets(texts[0], f.Value)), texts...)
	if len(texts) > 1 {
		f.Note = "there are several, and then none counts"
	}
	return nil
}

// purpose is the version tag that a text begins with, in lower case; "" if it has none.
func purpose(text string) string {
	first, _, _ := strings.Cut(strings.ReplaceAll(text, ";", " "), " ")
	if first = strings.ToLower(first); strings.HasPrefix(first, "v=") {
		return first
	}
	return ""
}

// sameText tells whether two texts mean the same: the order of tags and blanks do not matter.
func sameText(a, b string) bool {
	if a == b {
		return true
	}
	return slices.Equal(tags(a), tags(b))
}

// lets tells whether one SPF record lets those send whom another does, and maybe others, but not
// all the world.
func lets(have, want string) bool {
	if purpose(have) != "v=spf1" || purpose(want) != "v=spf1" {
		return false
	}
	terms := strings.Fields(strings.ToLower(have))
	for _, t := range strings.Fields(strings.ToLower(want)) {
		if !strings.HasSuffix(t, "all") && !slices.Contains(terms, t) {
			return false
		}
	}
	last := terms[len(terms)-1]
	return last == "-all" || last == "~all"
}

func tags(text string) (list []string) {
	sep := ";"
	if purpose(text) == "v=spf1" {
		sep = " "
	}
	for _, tag := range strings.Split(text, sep) {
		name, value, ok := strings.Cut(tag, "=")
		name, value = strings.TrimSpace(name), strings.Join(strings.Fields(value), "")
		if ok {
			name += "=" + value
		}
		if name != "" && name != "v=DKIM1" { // which may be left out (RFC 6376, 3.6.1)
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// alias is satisfied by any way in which the name leads to the same host.
func (c *comparison) alias(ctx context.Context, f *Finding) error {
	end, _, err := c.res.LookupCNAME(ctx, f.Name)
	if err != nil {
		return err
	}
	if end == f.Value {
		f.set(true)
		return nil
	}
	have, _, err := c.res.LookupAddr(ctx, f.Name)
	if err != nil {
		return err
	}
	want, _, err := c.res.LookupAddr(ctx, f.Value)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	var found []string
	if end != f.Name {
		found = append(found, end)
	}
	for _, a := range have {
		found = append(found, a.String())
	}
	f.set(!slices.ContainsFunc(have, func(a netip.Addr) bool { return !slices.Contains(want, a) }), found...)
	return nil
}

func (c *comparison) srv(ctx context.Context, f *Finding) error {
	list, _, err := c.res.LookupSRV(ctx, f.Name)
	if err != nil {
		return err
	}
	var found []string
	for _, s := range list {
		target := s.Target
		if target == "" {
			target = "."
		}
		found = append(found, fmt.Sprintf("%d %d %d %s", s.Priority, s.Weight, s.Port, target))
	}
	want := strings.Fields(f.Value)
	f.set(slices.ContainsFunc(found, func(t string) bool { return slices.Equal(strings.Fields(t)[2:], want[2:]) }), found...)
	return nil
}

func (c *comparison) tlsa(ctx context.Context, f *Finding) error {
	list, _, err := c.res.LookupTLSA(ctx, f.Name)
	if err != nil {
		return err
	}
	var found []string
	for _, t := range list {
		found = append(found, fmt.Sprintf("%d %d %d %s", t.Usage, t.Selector, t.Matching, hex.EncodeToString(t.Data)))
	}
	f.set(slices.Contains(found, f.Value), found...)
	for _, text := range found {
		if f.Status == Same && strings.HasPrefix(text, "3 1 1 ") && !c.wanted(f.Name, f.Type, text) {
			c.beside(f, text, "no key of this server")
		}
	}
	return nil
}

func (c *comparison) caa(ctx context.Context, f *Finding) error {
	list, _, err := c.res.LookupCAA(ctx, f.Name)
	if err != nil {
		return err
	}
	var found []string
	for _, r := range list {
		found = append(found, fmt.Sprintf("0 %s %q", r.Tag, r.Value))
	}
	f.set(slices.Contains(found, f.Value), found...)
	return nil
}

func (c *comparison) ptr(ctx context.Context, f *Finding) error {
	addr, ok := reversed(f.Name)
	if !ok {
		return fault.Newf(fault.Invalid, "%s is not the reverse of an address", f.Name)
	}
	hosts, _, err := c.res.LookupPTR(ctx, addr)
	if err != nil {
		return err
	}
	f.set(slices.Contains(hosts, f.Value), hosts...)
	return nil
}

// reversed reads the address out of a name below in-addr.arpa or ip6.arpa.
func reversed(name string) (netip.Addr, bool) {
	labels := strings.Split(name, ".")
	if len(labels) < 3 {
		return netip.Addr{}, false
	}
	kind, parts := labels[len(labels)-2], labels[:len(labels)-2]
	slices.Reverse(parts)
	text := strings.Join(parts, ".")
	if kind == "ip6" {
		text = ""
		for i, p := range parts {
			if i > 0 && i%4 == 0 {
				text += ":"
			}
			text += p
		}
	}
	a, err := netip.ParseAddr(text)
	return a, err == nil
}
