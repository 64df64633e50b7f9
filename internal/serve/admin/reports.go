package admin

import (
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/report"
)

// listReports tells what was reported about domains here, or with sent what became of our
// own reports, one object a line.
func (a *api) listReports(r *request) error {
	q, err := a.reportQuery(r)
	if err != nil {
		return err
	}
	if r.FormValue("sent") == "true" {
		lines, err := a.Reports.Lines(r.ctx, q)
		for _, line := range lines {
			if err := r.send(line); err != nil {
				return err
			}
		}
		return err
	}
	sources, transports, err := a.Reports.View(r.ctx, q)
	if err != nil {
		return err
	}
	for _, s := range sources {
		if err := r.send(s); err != nil {
			return err
		}
	}
	for _, t := range transports {
		if err := r.send(t); err != nil {
			return err
		}
	}
	return nil
}

func (a *api) reportQuery(r *request) (q report.Query, err error) {
	q.Since = a.Now().Add(-30 * 24 * time.Hour)
	if v := r.FormValue("since"); v != "" {
		if q.Since, err = time.Parse(time.RFC3339, v); err != nil {
			return q, fault.Newf(fault.Invalid, "since: %q is not a time such as 2026-01-31T12:00:00Z", v)
		}
	}
	switch v := r.FormValue("kind"); v {
	case "":
	case "dmarc":
		q.Kind = report.DMARC
	case "tls":
		q.Kind = report.TLS
	default:
		return q, fault.Newf(fault.Invalid, "kind: %q is neither dmarc nor tls", v)
	}
	if v := r.FormValue("domain"); v != "" {
		name, err := parseDomain(v)
		if err != nil {
			return q, err
		}
		if q.Domain, err = dnsx.ASCII(name); err != nil {
			return q, err
		}
	}
	return q, nil
}
