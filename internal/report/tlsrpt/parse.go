package tlsrpt

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Limits bound what a report can make us do. Zero fields have the values told.
type Limits struct {
	Bytes   int64 // of the file: 8 MB
	Depth   int   // of what is passed over: 32
	Entries int   // policies and failures that are kept; more are counted: 20,000
	Lines   int   // of one policy that are kept: 50
	Text    int   // bytes of a text that are kept: 300
}

func (l Limits) filled() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 8 << 20
	}
	for _, f := range []struct {
		have *int
		want int
	}{{&l.Depth, 32}, {&l.Entries, 20_000}, {&l.Lines, 50}, {&l.Text, 300}} {
		if *f.have <= 0 {
			*f.have = f.want
		}
	}
	return l
}

// Parse reads a report, piece by piece: what it costs grows with what is kept, not with what
// is there. Names that it does not know are passed over. Faults: Invalid (no report),
// TooLarge (over a limit), Closed (ctx has ended), and those of r.
func Parse(ctx context.Context, r io.Reader, lim Limits) (*Report, error) {
	lim = lim.filled()
	d := json.NewDecoder(&capped{ctx, r, lim.Bytes, lim.Bytes})
	d.UseNumber()
	p := &parser{d: d, lim: lim}
	if err := p.file(); err != nil {
		var f *fault.Error
		if errors.As(err, &f) {
			return nil, f
		}
		return nil, fault.Wrap(fault.Invalid, "the report is no valid JSON, or cannot be unpacked", err)
	}
	switch r := &p.report; {
	case r.Begin.IsZero() || r.End.Before(r.Begin):
		return nil, fault.New(fault.Invalid, "the report does not say which time it is about")
	case len(r.Policies) == 0:
		return nil, fault.New(fault.Invalid, "the report has no policies")
	}
	return &p.report, nil
}

// capped is a reader that ends with an error behind so many bytes, or with its context.
type capped struct {
	ctx         context.Context
	r           io.Reader
	left, limit int64
}

func (c *capped) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, fault.Wrap(fault.Closed, "there was no more time to read the report", err)
	}
	if c.left == 0 {
		return 0, fault.Newf(fault.TooLarge, "the report is larger than %d bytes", c.limit)
	}
	n, err := c.r.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

type parser struct {
	d       *json.Decoder
	lim     Limits
	report  Report
	entries int
}

var errShape = fault.New(fault.Invalid, "the file is no TLS report")

// object calls fn for each name of an object, which has to read its value. What is no object
// is passed over.
func (p *parser) object(fn func(name string) error) error {
	return p.walk('{', func() error {
		t, err := p.d.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		return fn(name)
	})
}

// walk calls fn for each element of an object or array.
func (p *parser) walk(open json.Delim, fn func() error) error {
	t, err := p.d.Token()
	if err != nil {
		return err
	}
	if t != open {
		return p.rest(t)
	}
	for p.d.More() {
		if err := fn(); err != nil {
			return err
		}
	}
	_, err = p.d.Token()
	return err
}

// rest passes over a value whose first token has been read.
func (p *parser) rest(t json.Token) error {
	for depth := 0; ; {
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > p.lim.Depth {
				return fault.New(fault.TooLarge, "the report is nested too deeply")
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
		var err error
		if t, err = p.d.Token(); err != nil {
			return err
		}
	}
}

func (p *parser) skip() error {
	t, err := p.d.Token()
	if err != nil {
		return err
	}
	return p.rest(t)
}

// text reads a string, or a number as one.
func (p *parser) text(to *string) error {
	t, err := p.d.Token()
	if err != nil {
		return err
	}
	switch t := t.(type) {
	case string:
		*to = clean(t, p.lim.Text)
	case json.Number:
		*to = clean(t.String(), p.lim.Text)
	default:
		return p.rest(t)
	}
	return nil
}

// texts reads a list of strings, or one alone.
func (p *parser) texts(to *[]string) error {
	t, err := p.d.Token()
	if err != nil {
		return err
	}
	if s, ok := t.(string); ok {
		*to = []string{clean(s, p.lim.Text)}
		return nil
	}
	if t != json.Delim('[') {
		return p.rest(t)
	}
	*to = nil
	for p.d.More() {
		var s string
		if err := p.text(&s); err != nil {
			return err
		}
		if len(*to) < p.lim.Lines {
			*to = append(*to, s)
		}
	}
	_, err = p.d.Token()
	return err
}

// most is more than anybody has in a day.
const most = 1_000_000_000_000

func (p *parser) number(to *uint64) error {
	var s string
	if err := p.text(&s); err != nil {
		return err
	}
	s, _, _ = strings.Cut(s, ".")
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		n = 0
	}
	*to = min(n, most)
	return nil
}

func (p *parser) time(to *time.Time) error {
	var s string
	if err := p.text(&s); err != nil {
		return err
	}
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(form, s); err == nil && t.Unix() > 0 && t.Unix() < 1<<33 {
			*to = t.UTC()
			return nil
		}
	}
	return nil
}

func (p *parser) file() error {
	t, err := p.d.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return errShape
	}
	r := &p.report
	for p.d.More() {
		t, err := p.d.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		switch name {
		case "organization-name":
			err = p.text(&r.Organization)
		case "contact-info":
			err = p.text(&r.Contact)
		case "report-id":
			err = p.text(&r.ID)
		case "date-range":
			err = p.object(func(name string) error {
				switch name {
				case "start-datetime":
					return p.time(&r.Begin)
				case "end-datetime":
					return p.time(&r.End)
				}
				return p.skip()
			})
		case "policies":
			err = p.walk('[', p.onePolicy)
		default:
			err = p.skip()
		}
		if err != nil {
			return err
		}
	}
	_, err = p.d.Token()
	return err
}

// room tells whether another entry is kept.
func (p *parser) room() bool {
	if p.entries >= p.lim.Entries {
		p.report.More++
		return false
	}
	p.entries++
	return true
}

func (p *parser) onePolicy() error {
	var one Policy
	err := p.object(func(name string) error {
		switch name {
		case "policy":
			return p.object(func(name string) error {
				switch name {
				case "policy-type":
					return p.text(&one.Type)
				case "policy-string":
					return p.texts(&one.Strings)
				case "policy-domain":
					return p.text(&one.Domain)
				case "mx-host", "mx-host-pattern":
					return p.texts(&one.Hosts)
				}
				return p.skip()
			})
		case "summary":
			return p.object(func(name string) error {
				switch name {
				case "total-successful-session-count":
					return p.number(&one.Successes)
				case "total-failure-session-count":
					return p.number(&one.Failed)
				}
				return p.skip()
			})
		case "failure-details":
			return p.walk('[', func() error { return p.oneFailure(&one) })
		}
		return p.skip()
	})
	if err != nil || one.Type == "" && one.Domain == "" {
		return err
	}
	one.Domain = strings.TrimSuffix(strings.ToLower(one.Domain), ".")
	if p.room() {
		p.report.Policies = append(p.report.Policies, one)
	}
	return nil
}

func (p *parser) oneFailure(of *Policy) error {
	var f Failure
	texts := map[string]*string{
		"result-type": &f.Result, "sending-mta-ip": &f.Sending, "receiving-mx-hostname": &f.Host, "receiving-mx-helo": &f.Helo,
		"receiving-ip": &f.Receiving, "additional-information": &f.Information, "failure-reason-code": &f.Reason, "failure-error-code": &f.Reason,
	}
	err := p.object(func(name string) error {
		if to := texts[name]; to != nil {
			return p.text(to)
		}
		if name == "failed-session-count" {
			return p.number(&f.Sessions)
		}
		return p.skip()
	})
	if err == nil && f.Result != "" && p.room() {
		of.Failures = append(of.Failures, f)
	}
	return err
}

// clean is a text without white space around it and without what harms a terminal.
func clean(s string, most int) string {
	s = strings.TrimSpace(strings.ToValidUTF8(s[:min(len(s), 4*most)], "?"))
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
