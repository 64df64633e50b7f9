package aggregate

import (
	"bytes"
	"encoding/xml"
	"strconv"
	"strings"
)

// Namespace is that of RFC 9990.
const Namespace = "urn:ietf:params:xml:ns:dmarc-2.0"

// XML writes the report in the form of RFC 9990, appendix A. Elements are in the order of its tables,
// which the schema leaves free in places.
func (r *Report) XML() []byte {
	w := &writer{}
	w.b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<feedback xmlns=\"" + Namespace + "\">\n")
	w.depth = 1
	w.leaf("version", "1.0")
	w.open("report_metadata")
	w.leaf("org_name", r.Organization)
	w.leaf("email", r.Email)
	w.some("extra_contact_info", r.Contact)
	w.leaf("report_id", r.ID)
	w.open("date_range")
	w.leaf("begin", strconv.FormatInt(r.Begin.Unix(), 10))
	w.leaf("end", strconv.FormatInt(r.End.Unix(), 10))
	w.close("date_range")
	w.some("error", r.Error)
	w.some("generator", r.Generator)
	w.close("report_metadata")
	w.policy(r.Policy)
	for _, one := range r.Records {
		w.record(one)
	}
	w.close("feedback")
	return w.b.Bytes()
}

type writer struct {
	b     bytes.Buffer
	depth int
}

func (w *writer) indent() { w.b.WriteString(strings.Repeat("  ", w.depth)) }

func (w *writer) open(name string) {
	w.indent()
	w.b.WriteString("<" + name + ">\n")
	w.depth++
}

func (w *writer) close(name string) {
	w.depth--
	w.indent()
	w.b.WriteString("</" + name + ">\n")
}

func (w *writer) leaf(name, text string) {
	w.indent()
	w.b.WriteString("<" + name + ">")
	_ = xml.EscapeText(&w.b, []byte(text)) // a Buffer has no errors
	w.b.WriteString("</" + name + ">\n")
}

// some is leaf for what may be left out.
func (w *writer) some(name, text string) {
	if text != "" {
		w.leaf(name, text)
	}
}

func (w *writer) policy(p Policy) {
	w.open("policy_published")
	w.leaf("domain", p.Domain)
	w.some("discovery_method", p.Discovery)
	w.leaf("p", p.Policy)
	w.some("sp", p.Subdomains)
	w.some("np", p.NonExistent)
	w.some("fo", p.Failure)
	w.some("adkim", p.DKIM)
	w.some("aspf", p.SPF)
	w.leaf("testing", map[bool]string{true: "y", false: "n"}[p.Testing])
	w.close("policy_published")
}

func verdict(pass bool) string {
	if pass {
		return "pass"
	}
	return "fail"
}

func (w *writer) record(r Record) {
	w.open("record")
	w.open("row")
	w.leaf("source_ip", r.Source.String())
	w.leaf("count", strconv.FormatUint(r.Count, 10))
	w.open("policy_evaluated")
	w.leaf("disposition", r.Disposition)
	w.leaf("dkim", verdict(r.DKIM))
	w.leaf("spf", verdict(r.SPF))
	for _, one := range r.Reasons {
		w.open("reason")
		w.leaf("type", one.Type)
		w.some("comment", one.Comment)
		w.close("reason")
	}
	w.close("policy_evaluated")
	w.close("row")
	w.open("identifiers")
	w.leaf("header_from", r.HeaderFrom)
	w.leaf("envelope_from", r.EnvelopeFrom) // empty for the null sender
	w.some("envelope_to", r.EnvelopeTo)
	w.close("identifiers")
	w.open("auth_results")
	for _, one := range r.DKIMResults {
		w.result("dkim", one)
	}
	for _, one := range r.SPFResults[:min(len(r.SPFResults), 1)] {
		w.result("spf", one)
	}
	w.close("auth_results")
	w.close("record")
}

func (w *writer) result(name string, r Result) {
	w.open(name)
	w.leaf("domain", r.Domain)
	if name == "dkim" {
		w.leaf("selector", r.Selector)
	} else {
		w.some("scope", r.Scope)
	}
	w.leaf("result", r.Result)
	w.some("human_result", r.Human)
	w.close(name)
}
