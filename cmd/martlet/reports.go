package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/receive"
	reports "github.com/martlet-mail/martlet/internal/report"
	"github.com/martlet-mail/martlet/internal/report/aggregate"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
	"github.com/martlet-mail/martlet/internal/send"
)

// newReports makes what [reports] says.
func (h *house) newReports() (*reports.Book, error) {
	o, err := h.reportOptions()
	if err != nil {
		return nil, err
	}
	return reports.New(o), nil
}

func (h *house) reportOptions() (reports.Options, error) {
	roots, _, err := authorities(h.cfg.Queue.CA)
	if err != nil {
		return reports.Options{}, misconfigured(err)
	}
	r := h.cfg.Reports
	return reports.Options{
		Engine: h.engine, Resolver: h.resolver, Now: time.Now, Log: h.log,
		Collect: r.Send, Hostname: string(h.cfg.Hostname), Organization: r.Organisation, Version: thisBuild().Version,
		From: h.reporter, Mail: h.mailReport, Dial: new(net.Dialer).DialContext, Roots: roots, AllowPrivate: h.cfg.Queue.AllowPrivate,
		Sends: h.sending.Load, Asked: h.askedForReports, Keep: time.Duration(r.Keep),
	}, nil
}

// keepReports counts, sends and reads reports.
func (h *house) keepReports(ctx context.Context) error {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	h.reports.Run(ctx, minute.C)
	return nil
}

// sendReports lets this node be the one that sends them.
func (h *house) sendReports(ctx context.Context) error {
	h.sending.Store(true)
	defer h.sending.Store(false)
	<-ctx.Done()
	return nil
}

// mailReport sends one.
func (h *house) mailReport(ctx context.Context, key string, env mail.Envelope, message []byte) error {
	return h.road.Report(queue.Common(ctx), key, env, bytes.NewReader(message))
}

// reporter is the address that reports come from: of a domain that signs.
func (h *house) reporter(ctx context.Context) (mail.Address, error) {
	if text := h.cfg.Reports.Contact; text != "" {
		contact, err := mail.ParseAddress(text)
		if err != nil {
			return contact, fault.New(fault.Invalid, "[reports] contact is no address")
		}
		return contact, h.signs(ctx, contact.Domain)
	}
	names := []string{}
	for name := strings.ToLower(string(h.cfg.Hostname)); name != ""; _, name, _ = strings.Cut(name, ".") {
		names = append(names, name)
	}
	all, err := h.directory.Domains(ctx)
	if err != nil {
		return mail.Address{}, err
	}
	for _, d := range all {
		names = append(names, d.Name)
	}
	for _, name := range names {
		ascii, err := dnsx.ASCII(name)
		if err != nil {
			continue
		}
		if local, err := h.directory.IsLocal(ctx, ascii); err == nil && local && h.signs(ctx, ascii) == nil {
			return mail.Address{Local: "postmaster", Domain: ascii}, nil
		}
	}
	return mail.Address{}, fault.New(fault.Unsupported, "no domain here signs its mail, so nobody would believe a report")
}

// signs tells whether mail of a domain is signed here.
func (h *house) signs(ctx context.Context, domain string) error {
	for name := domain; name != ""; _, name, _ = strings.Cut(name, ".") {
		if keys, err := h.directory.Signers(ctx, name); err != nil || len(keys) > 0 {
			return err
		}
	}
	return fault.Newf(fault.Unsupported, "mail of %s is not signed here, so nobody would believe a report; set [reports] contact to an address of a domain that is", domain)
}

// askedForReports is the address to which the records of a domain here ask for reports.
func (h *house) askedForReports(ctx context.Context, kind reports.Kind, domain string) (mail.Address, bool) {
	if local, err := h.directory.IsLocal(ctx, domain); err != nil || !local {
		return mail.Address{}, false
	}
	s, err := h.directory.Settings(ctx, domain)
	if err != nil {
		return mail.Address{}, false
	}
	text := s.DMARCReports
	if kind == reports.TLS {
		text = s.TLSReports
	}
	to, _ := mail.ParseAddress(text) // none is the zero address, which nobody has
	return to, true
}

// observed tells of a message from outside.
func (h *house) observed(o receive.Observation) {
	l := reportLetter(o)
	if l.Part != nil && !h.cfg.Reports.FileOnly && o.Disposition != check.Reject {
		h.reports.Arrived(l)
	}
	if l.Part != nil && l.Verified {
		return // reports of reports would go to and fro for ever
	}
	if m, ok := dmarcMessage(o); ok {
		h.reports.Saw(m)
	}
}

// reportLetter is a message as one that may be a report.
func reportLetter(o receive.Observation) reports.Letter {
	m := o.Message.Message()
	v := o.Verdict
	l := reports.Letter{At: o.At, Part: reports.Attachment(m.Root, m.Subject), Open: o.Message.Open, Reporter: v.DMARC.Author}
	if l.Part == nil {
		return l
	}
	for _, to := range v.Envelope.To {
		l.To = append(l.To, to.Address)
	}
	for _, s := range v.DKIM {
		l.Signed = l.Signed || s.Status == dkim.Pass && (within(s.Domain, l.Reporter) || within(l.Reporter, s.Domain) && strings.Contains(s.Domain, "."))
	}
	l.Verified = v.DMARC.Problem == "" && (v.DMARC.Status == dmarc.Pass || v.DMARC.Status == dmarc.None && l.Signed)
	l.Signed = l.Signed && l.Verified
	return l
}

func within(name, other string) bool {
	return other != "" && (name == other || strings.HasSuffix(name, "."+other))
}

// dmarcMessage is what a report to the author's domain says of a message.
func dmarcMessage(o receive.Observation) (m reports.Message, ok bool) {
	v := o.Verdict
	d := &v.DMARC
	if d.Domain == "" {
		return m, false
	}
	m = reports.Message{At: o.At, Domain: d.Domain, Policy: d.Record.Text}
	r := &m.Record
	r.Source, r.DKIM, r.SPF = v.Peer.Addr, len(d.DKIM) > 0, d.SPF
	r.HeaderFrom, r.EnvelopeFrom = d.Author, strings.ToLower(v.Envelope.From.Domain)
	if d.Problem != "" { // nobody stands behind a message whose author is not sure
		r.DKIM, r.SPF = false, false
	}
	for _, s := range v.DKIM {
		if s.Domain != "" {
			r.DKIMResults = append(r.DKIMResults, aggregate.Result{Domain: s.Domain, Selector: s.Selector, Result: string(s.Status)})
		}
	}
	if !v.SPF.IsHelo && v.SPF.Domain != "" {
		r.SPFResults = []aggregate.Result{{Domain: v.SPF.Domain, Scope: "mfrom", Result: string(v.SPF.Status)}}
	}
	r.Disposition, r.Reasons = disposed(o)
	return m, true
}

// disposed says in the words of reports what became of a message, as far as DMARC is the
// reason, and why it is less than its policy asks for (RFC 9990, policy_evaluated).
func disposed(o receive.Observation) (string, []aggregate.Reason) {
	d := &o.Verdict.DMARC
	if d.Status == dmarc.Pass {
		if d.Policy == dmarc.PolicyNone || d.Policy == "" {
			return "none", nil
		}
		return "pass", nil
	}
	steps := []string{"none", "quarantine", "reject"}
	asked := map[dmarc.Policy]int{dmarc.PolicyQuarantine: 1, dmarc.PolicyReject: 2}
	done := min(max(int(o.Disposition)-int(check.Mark), 0), asked[d.Applied])
	if done == asked[d.Policy] {
		return steps[done], nil
	}
	if d.Status != dmarc.Fail {
		return steps[done], []aggregate.Reason{{Type: "other", Comment: "DMARC could not be evaluated: " + string(d.Status)}}
	}
	if done == asked[d.Applied] {
		return steps[done], []aggregate.Reason{{Type: "policy_test_mode"}}
	}
	for _, r := range o.Rulings {
		if r.Override != "" && min(r.Disposition, check.Junk) == min(o.Disposition, check.Junk) {
			return steps[done], []aggregate.Reason{{Type: r.Override, Comment: r.Comment}}
		}
	}
	return steps[done], []aggregate.Reason{{Type: "local_policy"}}
}

// connected tells of a connection to another host.
func (h *house) connected(o send.TLSObservation) {
	domain, err := dnsx.ASCII(o.Domain)
	if err != nil {
		return // an address literal: nobody asks for reports there
	}
	s := reports.Session{At: o.At, Domain: domain, Policy: tlsrpt.Policy{
		Type: o.Policy.Type, Strings: o.Policy.Strings, Domain: o.Policy.Domain, Hosts: o.Policy.Hosts,
	}}
	if s.Policy.Domain == "" {
		s.Policy.Domain = domain
	}
	if o.Line.Failure != mail.NoTLSFault {
		s.Failure = tlsrpt.Failure{Result: string(o.Line.Failure), Host: o.Host, Helo: o.Helo, Reason: o.Line.Why}
		if o.Sending.IsValid() {
			s.Failure.Sending = o.Sending.String()
		}
		if o.Receiving.IsValid() {
			s.Failure.Receiving = o.Receiving.String()
		}
	}
	h.reports.Connected(s)
}
