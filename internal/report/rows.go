package report

import (
	"net/netip"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/report/aggregate"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
)

// encodeRecord writes a row of an aggregate report without its count.
func encodeRecord(r aggregate.Record) []byte {
	var e record.Enc
	addr := []byte(nil)
	if r.Source.IsValid() {
		addr = r.Source.AsSlice()
	}
	e.Bytes(addr)
	e.Str(r.Disposition)
	e.Bool(r.DKIM, r.SPF)
	e.U(uint64(len(r.Reasons)))
	for _, one := range r.Reasons {
		e.Str(one.Type, one.Comment)
	}
	e.Str(r.HeaderFrom, r.EnvelopeFrom, r.EnvelopeTo)
	for _, list := range [][]aggregate.Result{r.DKIMResults, r.SPFResults} {
		e.U(uint64(len(list)))
		for _, one := range list {
			e.Str(one.Domain, one.Selector, one.Scope, one.Result, one.Human)
		}
	}
	return e
}

func decodeRecord(b []byte) (r aggregate.Record, err error) {
	d := &record.Dec{Rest: b}
	r = readRecord(d)
	return r, d.End("row of a report")
}

func readRecord(d *record.Dec) (r aggregate.Record) {
	r.Source, _ = netip.AddrFromSlice(d.Bytes())
	r.Disposition, r.DKIM, r.SPF = d.Str(), d.Bool(), d.Bool()
	for range d.Count() {
		r.Reasons = append(r.Reasons, aggregate.Reason{Type: d.Str(), Comment: d.Str()})
	}
	r.HeaderFrom, r.EnvelopeFrom, r.EnvelopeTo = d.Str(), d.Str(), d.Str()
	for _, list := range []*[]aggregate.Result{&r.DKIMResults, &r.SPFResults} {
		for range d.Count() {
			*list = append(*list, aggregate.Result{Domain: d.Str(), Selector: d.Str(), Scope: d.Str(), Result: d.Str(), Human: d.Str()})
		}
	}
	return r
}

// encodeSession writes a row of a TLS report: the policy and one kind of failure, or none.
func encodeSession(p tlsrpt.Policy, f tlsrpt.Failure) []byte {
	var e record.Enc
	e.Str(p.Type, clip(p.Domain))
	for _, list := range [][]string{p.Strings, p.Hosts} {
		list = clips(list)
		e.U(uint64(len(list)))
		e.Str(list...)
	}
	e.Str(f.Result)
	if f.Result != "" {
		e.Str(f.Sending, clip(f.Host), clip(f.Helo), f.Receiving, clip(f.Information), clip(f.Reason))
	}
	return e
}

func decodeSession(b []byte) (p tlsrpt.Policy, f tlsrpt.Failure, err error) {
	return nextSession(b, tlsrpt.Policy{})
}

// nextSession is decodeSession for a row that has, if it has no policy, that of the row before.
func nextSession(b []byte, last tlsrpt.Policy) (p tlsrpt.Policy, f tlsrpt.Failure, err error) {
	d := &record.Dec{Rest: b}
	p.Type, p.Domain = d.Str(), d.Str()
	for _, list := range []*[]string{&p.Strings, &p.Hosts} {
		for range d.Count() {
			*list = append(*list, d.Str())
		}
	}
	if f.Result = d.Str(); f.Result != "" {
		f = tlsrpt.Failure{Result: f.Result, Sending: d.Str(), Host: d.Str(), Helo: d.Str(), Receiving: d.Str(), Information: d.Str(), Reason: d.Str()}
	}
	if p.Type == "" {
		p = last
	}
	if p.Type == "" && d.Err("") == nil {
		return p, f, fault.New(fault.Corrupt, "a stored row of a TLS report has no policy")
	}
	return p, f, d.End("row of a TLS report")
}
