package admin

import (
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/trace"
)

// tellStories tells the stories of messages, one a line, the newest last.
func (a *api) tellStories(r *request) error {
	if a.Trace == nil {
		return fault.New(fault.Unsupported, "no stories of messages are kept; set [trace] keep to a time such as 30d")
	}
	q := trace.Query{Name: r.FormValue("name")}
	if v := r.FormValue("since"); v != "" {
		at, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return fault.Newf(fault.Invalid, "since: %q is not a time such as 2026-01-31T12:00:00Z", v)
		}
		q.Since = at
	}
	if v := r.FormValue("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 10_000 {
			return fault.Newf(fault.Invalid, "limit: %q is not a number from 1 to 10000", v)
		}
		q.Limit = n
	}
	stories, err := a.Trace.Find(r.ctx, q)
	if err != nil {
		return err
	}
	for _, s := range stories {
		if err := r.send(s); err != nil {
			return err
		}
	}
	return nil
}
