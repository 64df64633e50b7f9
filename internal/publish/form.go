package publish

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/fault"
)

// TTL of records that are made here, in seconds: an hour, so that mistakes can be put right.
const TTL = 3600

// maxString is the longest string of a TXT record (RFC 1035, 3.3).
const maxString = 255

// Host is the part of a record's name that forms of registrars ask for: without the domain,
// "@" for the domain itself. A name of another domain stays whole.
func (r Record) Host(domain string) string {
	if r.Name == domain {
		return "@"
	}
	return strings.TrimSuffix(r.Name, "."+domain)
}

// Inside tells whether a record lies in the zone of a domain.
func (r Record) Inside(domain string) bool { return below(r.Name, domain) }

// Data is the value as zone files have it: names with the final dot, texts in quotes and in
// pieces of at most 255 bytes.
func (r Record) Data() string {
	switch r.Type {
	case "TXT":
		return quoted(r.Value)
	case "MX", "SRV", "CNAME", "PTR":
		return strings.TrimSuffix(r.Value, ".") + "."
	}
	return r.Value
}

func quoted(text string) string {
	var pieces []string
	for rest := text; rest != "" || len(pieces) == 0; {
		n := min(len(rest), maxString)
		pieces = append(pieces, `"`+escaped(rest[:n])+`"`)
		rest = rest[n:]
	}
	return strings.Join(pieces, " ")
}

// escaped writes any bytes within quotes of a master file (RFC 1035, 5.1).
func escaped(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// rr is the record as the library has it. A fault is a defect of Records, or a value that was
// stored long ago.
func (r Record) rr() (dns.RR, error) {
	rr, err := dns.NewRR(fmt.Sprintf("%s. %d IN %s %s", r.Name, TTL, r.Type, r.Data()))
	if err != nil || rr == nil {
		return nil, fault.Wrap(fault.Internal, "a record cannot be written: "+r.Name+" "+r.Type, err)
	}
	return rr, nil
}

// ZoneFile writes records as a part of the domain's zone file. What lies in other zones is in
// comments.
func ZoneFile(w io.Writer, domain string, all []Record) error {
	b := new(strings.Builder)
	fmt.Fprintf(b, "; What %s should have. $TTL and order do not matter.\n", domain)
	for _, r := range all {
		fmt.Fprintf(b, "\n; %s: %s\n", r.Need, r.Why)
		if !r.Inside(domain) {
			b.WriteString("; (not in this zone) ")
		}
		fmt.Fprintf(b, "%s.\t%d\tIN\t%s\t%s\n", r.Name, TTL, r.Type, r.Data())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// CSV writes records with a heading, for tables and for imports.
func CSV(w io.Writer, domain string, all []Record) error {
	c := csv.NewWriter(w)
	_ = c.Write([]string{"host", "type", "priority", "value", "ttl", "name", "need", "why"}) // Error tells
	for _, r := range all {
		priority, value := "", r.Value
		if r.Type == "MX" || r.Type == "SRV" {
			priority, value, _ = strings.Cut(r.Value, " ")
		}
		_ = c.Write([]string{r.Host(domain), r.Type, priority, value, fmt.Sprint(TTL), r.Name, string(r.Need), r.Why})
	}
	c.Flush()
	return c.Error()
}

// Field is one line of a registrar's form.
type Field struct{ Label, Text string }

// Fields splits a record as forms ask for it.
func (r Record) Fields(domain string) []Field {
	form := []Field{{"Type", r.Type}, {"Host", r.Host(domain)}}
	parts := strings.Fields(r.Value)
	labels := map[string][]string{
		"MX": {"Priority", "Points to"}, "SRV": {"Priority", "Weight", "Port", "Target"}, "CNAME": {"Points to"}, "PTR": {"Points to"},
		"A": {"Address"}, "AAAA": {"Address"}, "TLSA": {"Usage", "Selector", "Matching", "Data"}, "CAA": {"Flags", "Tag", "Value"},
	}[r.Type]
	if len(labels) != len(parts) {
		return append(form, Field{"Value", r.Value})
	}
	if r.Type == "SRV" {
		service, protocol, _ := strings.Cut(r.Host(domain), ".")
		form = append(form, Field{"Service", service}, Field{"Protocol", protocol})
	}
	for i, label := range labels {
		form = append(form, Field{label, strings.Trim(parts[i], `"`)})
	}
	return form
}

// Forms writes records one after the other, each field on a line of its own.
func Forms(w io.Writer, domain string, all []Record) error {
	b := new(strings.Builder)
	for i, r := range all {
		fmt.Fprintf(b, "%d. %s: %s\n", i+1, r.Need, r.Why)
		if !r.Inside(domain) {
			b.WriteString("   (not in the zone of " + domain + ")\n")
		}
		for _, f := range r.Fields(domain) {
			fmt.Fprintf(b, "   %-11s %s\n", f.Label, f.Text)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}
