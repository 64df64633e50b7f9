package aggregate

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// Limits bound what a report can make us do. Zero fields have the values told.
type Limits struct {
	Bytes   int64 // of the file: 32 MB
	Token   int   // bytes of one tag or text: 64 KB
	Tokens  int   // 4,000,000
	Depth   int   // of elements: 16
	Records int   // that are kept; more are counted: 20,000
	Results int   // of SPF or DKIM, and reasons, of one record: 20
	Notes   int   // of these in all records; records with more are counted as too many: 200,000
	Text    int   // bytes of a text that are kept: 300
}

func (l Limits) filled() Limits {
	def := Limits{32 << 20, 64 << 10, 4_000_000, 16, 20_000, 20, 200_000, 300}
	if l.Bytes <= 0 {
		l.Bytes = def.Bytes
	}
	for _, f := range []struct {
		have *int
		want int
	}{{&l.Token, def.Token}, {&l.Tokens, def.Tokens}, {&l.Depth, def.Depth}, {&l.Records, def.Records}, {&l.Results, def.Results}, {&l.Notes, def.Notes}, {&l.Text, def.Text}} {
		if *f.have <= 0 {
			*f.have = f.want
		}
	}
	return l
}

// Parse reads a report. Namespaces and elements that it does not know are passed over.
// Faults: Invalid (no report, a document type, no end), TooLarge (over a limit), Closed (ctx
// has ended), and those of r.
func Parse(ctx context.Context, r io.Reader, lim Limits) (*Report, error) {
	lim = lim.filled()
	in := &meter{r: r, lim: lim, left: lim.Bytes}
	d := xml.NewDecoder(in)
	d.CharsetReader = func(charset string, r io.Reader) (io.Reader, error) { return mime.ToUTF8(charset, r), nil }
	p := &parser{lim: lim}
	for n := 0; ; n++ {
		if n == lim.Tokens {
			return nil, fault.New(fault.TooLarge, "the report has too many elements")
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return nil, fault.Wrap(fault.Closed, "there was no more time to read the report", ctx.Err())
		}
		in.token = 0
		t, err := d.Token()
		if err == io.EOF {
			return p.finish()
		}
		if err != nil {
			return nil, in.explain(err)
		}
		if err := p.take(t); err != nil {
			return nil, err
		}
		if p.done { // what follows is nobody's business
			return p.finish()
		}
	}
}

// meter hands out bytes one by one, so that none is read ahead, and counts them.
type meter struct {
	r     io.Reader
	lim   Limits
	buf   [4096]byte
	have  []byte
	left  int64
	token int
	err   error // of r, or of a limit
}

func (m *meter) ReadByte() (byte, error) {
	m.token++
	switch {
	case m.err != nil:
		return 0, m.err
	case m.left == 0:
		return 0, m.stop(fault.Newf(fault.TooLarge, "the report is larger than %d bytes", m.lim.Bytes))
	case m.token > m.lim.Token+len(m.buf):
		return 0, m.stop(fault.Newf(fault.TooLarge, "the report has a tag or text of more than %d bytes", m.lim.Token))
	}
	for len(m.have) == 0 {
		n, err := m.r.Read(m.buf[:])
		m.have = m.buf[:n]
		if n == 0 && err != nil {
			return 0, m.stop(err)
		}
	}
	c := m.have[0]
	m.have = m.have[1:]
	m.left--
	return c, nil
}

// Read is for charsets other than UTF-8.
func (m *meter) Read(p []byte) (int, error) {
	for i := range p {
		c, err := m.ReadByte()
		if err != nil {
			if i > 0 {
				err = nil
			}
			return i, err
		}
		p[i] = c
	}
	return len(p), nil
}

func (m *meter) stop(err error) error {
	m.err = err
	return err
}

// explain says what stands behind an error of the decoder.
func (m *meter) explain(err error) error {
	var f *fault.Error
	if m.err != nil && m.err != io.EOF && errors.As(m.err, &f) {
		return f
	}
	if m.err != nil && m.err != io.EOF && m.err != io.ErrUnexpectedEOF {
		return fault.Wrap(fault.Invalid, "the report cannot be unpacked", m.err)
	}
	return fault.Wrap(fault.Invalid, "the report is no well-formed XML", err)
}

// parser follows the elements of a report.
type parser struct {
	lim    Limits
	path   []string
	text   []byte
	report Report
	record *Record
	reason *Reason
	result *Result
	notes  int  // reasons and results that are kept
	bad    bool // the record has something that cannot be read
	begun  bool
	done   bool
}

func (p *parser) take(t xml.Token) error {
	switch t := t.(type) {
	case xml.Directive:
		return fault.New(fault.Invalid, "the report has a document type, which reports do not have")
	case xml.StartElement:
		if !p.begun && t.Name.Local != "feedback" {
			return fault.Newf(fault.Invalid, "the file is no report: it begins with %.40q", t.Name.Local)
		}
		p.begun = true
		if len(p.path) == p.lim.Depth {
			return fault.New(fault.TooLarge, "the report is nested too deeply")
		}
		p.path = append(p.path, t.Name.Local)
		p.text = p.text[:0]
		p.start(t.Name.Local)
	case xml.CharData:
		if room := p.lim.Text*4 - len(p.text); room > 0 {
			p.text = append(p.text, t[:min(len(t), room)]...)
		}
	case xml.EndElement:
		p.end()
		p.path = p.path[:len(p.path)-1]
		p.text = p.text[:0]
		p.done = len(p.path) == 0
	}
	return nil
}

// at tells whether the path is this one below the root.
func (p *parser) at(names ...string) bool {
	if len(p.path) != len(names)+1 {
		return false
	}
	for i, n := range names {
		if p.path[i+1] != n {
			return false
		}
	}
	return true
}

func (p *parser) start(name string) {
	switch {
	case p.at("record"):
		p.record, p.bad = &Record{}, false
	case p.record == nil:
	case p.at("record", "row", "policy_evaluated", "reason"):
		p.reason = &Reason{}
	case p.at("record", "auth_results", "dkim"), p.at("record", "auth_results", "spf"):
		p.result = &Result{}
	}
}

func (p *parser) end() {
	s := clean(p.text, p.lim.Text)
	if p.record == nil {
		p.head(s)
		return
	}
	r := p.record
	switch {
	case p.at("record"):
		p.record = nil
		notes := len(r.Reasons) + len(r.DKIMResults) + len(r.SPFResults)
		if p.bad || !r.Source.IsValid() || len(p.report.Records) >= p.lim.Records || p.notes+notes > p.lim.Notes {
			p.report.More++
			return
		}
		p.notes += notes
		p.report.Records = append(p.report.Records, *r)
	case p.at("record", "row", "policy_evaluated", "reason"):
		if len(r.Reasons) < p.lim.Results {
			r.Reasons = append(r.Reasons, *p.reason)
		}
		p.reason = nil
	case p.at("record", "auth_results", "dkim"):
		r.DKIMResults = p.keep(r.DKIMResults)
	case p.at("record", "auth_results", "spf"):
		r.SPFResults = p.keep(r.SPFResults)
	default:
		p.leaf(r, s)
	}
}

func (p *parser) keep(list []Result) []Result {
	if len(list) < p.lim.Results {
		list = append(list, *p.result)
	}
	p.result = nil
	return list
}

// leaf takes a text of a record.
func (p *parser) leaf(r *Record, s string) {
	name, in := p.path[len(p.path)-1], ""
	if len(p.path) > 1 {
		in = p.path[len(p.path)-2]
	}
	switch in + "/" + name {
	case "row/source_ip":
		a, err := netip.ParseAddr(strings.Trim(s, "[]"))
		p.bad = p.bad || err != nil
		r.Source = a.Unmap().WithZone("")
	case "row/count":
		r.Count = number(s)
	case "policy_evaluated/disposition":
		r.Disposition = strings.ToLower(s)
	case "policy_evaluated/dkim":
		r.DKIM = strings.EqualFold(s, "pass")
	case "policy_evaluated/spf":
		r.SPF = strings.EqualFold(s, "pass")
	case "identifiers/header_from":
		r.HeaderFrom = domain(s)
	case "identifiers/envelope_from":
		r.EnvelopeFrom = domain(s)
	case "identifiers/envelope_to":
		r.EnvelopeTo = domain(s)
	}
	if p.reason != nil && in == "reason" {
		switch name {
		case "type":
			p.reason.Type = strings.ToLower(s)
		case "comment":
			p.reason.Comment = s
		}
	}
	if p.result != nil && (in == "dkim" || in == "spf") {
		p.result.set(name, s)
	}
}

func (r *Result) set(name, s string) {
	switch name {
	case "domain":
		r.Domain = domain(s)
	case "selector":
		r.Selector = s
	case "scope":
		r.Scope = strings.ToLower(s)
	case "result":
		r.Result = strings.ToLower(s)
	case "human_result":
		r.Human = s
	}
}

// head takes a text of what stands before the records.
func (p *parser) head(s string) {
	r := &p.report
	switch {
	case p.at("report_metadata", "org_name"):
		r.Organization = s
	case p.at("report_metadata", "email"):
		r.Email = s
	case p.at("report_metadata", "extra_contact_info"):
		r.Contact = s
	case p.at("report_metadata", "report_id"):
		r.ID = s
	case p.at("report_metadata", "error"):
		r.Error = s
	case p.at("report_metadata", "generator"):
		r.Generator = s
	case p.at("report_metadata", "date_range", "begin"):
		r.Begin = second(s)
	case p.at("report_metadata", "date_range", "end"):
		r.End = second(s)
	case len(p.path) == 3 && p.path[1] == "policy_published":
		r.Policy.set(p.path[2], s)
	}
}

func (p *Policy) set(name, s string) {
	switch name {
	case "domain":
		p.Domain = domain(s)
	case "p":
		p.Policy = strings.ToLower(s)
	case "sp":
		p.Subdomains = strings.ToLower(s)
	case "np":
		p.NonExistent = strings.ToLower(s)
	case "adkim":
		p.DKIM = strings.ToLower(s)
	case "aspf":
		p.SPF = strings.ToLower(s)
	case "fo":
		p.Failure = s
	case "testing":
		p.Testing = strings.EqualFold(s, "y")
	case "discovery_method":
		p.Discovery = strings.ToLower(s)
	}
}

// finish looks at the report as a whole.
func (p *parser) finish() (*Report, error) {
	r := &p.report
	switch {
	case !p.begun || !p.done:
		return nil, fault.New(fault.Invalid, "the file is no whole report")
	case r.Policy.Domain == "":
		return nil, fault.New(fault.Invalid, "the report does not say which domain it is about")
	case r.Begin.IsZero() || r.End.Before(r.Begin):
		return nil, fault.New(fault.Invalid, "the report does not say which time it is about")
	}
	return r, nil
}

// domain is a name as reports have it, in lower case without the final dot.
func domain(s string) string { return strings.TrimSuffix(strings.ToLower(s), ".") }

// most is more than anybody receives in a day.
const most = 1_000_000_000_000

func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return min(n, most)
}

// second reads seconds since 1970, zero if they are none of this age.
func second(s string) time.Time {
	s, _, _ = strings.Cut(s, ".")
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > 1<<33 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

// clean is a text without white space around it and without what harms a terminal.
func clean(b []byte, most int) string {
	s := strings.TrimSpace(strings.ToValidUTF8(string(b), "?"))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return ' '
		}
		return c
	}, s))
}
