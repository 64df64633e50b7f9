package admin

import (
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Lines about deleted mail: any number of messages, then one with event done.
type (
	deletedLine struct {
		Event   string    `json:"event"`
		Mailbox string    `json:"mailbox"` // in which it lay
		UID     mail.UID  `json:"uid"`     // that it had there
		Deleted time.Time `json:"deleted"`
		From    string    `json:"from"`
		Subject string    `json:"subject"`
		Bytes   int64     `json:"bytes"`
		NewUID  mail.UID  `json:"new_uid,omitempty"` // that it has there now
	}
	undeletedLine struct {
		Event    string `json:"event"`
		Messages int    `json:"messages"`
		Bytes    int64  `json:"bytes"`
	}
)

// listDeleted tells which messages would be given back.
func (a *api) listDeleted(r *request) error {
	acct, q, err := a.deletedQuery(r)
	if err != nil {
		return err
	}
	tell, done := r.tellDeleted("deleted")
	if err := a.Store.Account(acct).Deleted(r.ctx, q, tell); err != nil {
		return err
	}
	return done()
}

// undelete gives deleted messages back.
func (a *api) undelete(r *request) error {
	acct, q, err := a.deletedQuery(r)
	if err != nil {
		return err
	}
	tell, done := r.tellDeleted("restored")
	if err := a.Store.Account(acct).Undelete(r.ctx, q, tell); err != nil {
		return err
	}
	return done()
}

// tellDeleted returns what writes a line for each message, and the last one.
func (r *request) tellDeleted(event string) (tell func(store.Deleted) error, done func() error) {
	sum := undeletedLine{Event: "done"}
	tell = func(d store.Deleted) error {
		sum.Messages++
		sum.Bytes += d.Size
		return r.send(deletedLine{event, d.Mailbox, d.UID, d.At.UTC(), d.From, d.Subject, d.Size, d.Restored})
	}
	return tell, func() error { return r.send(sum) }
}

// deletedQuery reads the account in the path and what is asked for.
func (a *api) deletedQuery(r *request) (id mail.AccountID, q store.DeletedQuery, err error) {
	acct, err := a.lookup(r)
	if err != nil {
		return 0, q, err
	}
	in := r.URL.Query()
	for name := range in {
		switch name {
		case "mailbox", "subject", "since", "uid":
		default:
			return 0, q, fault.Newf(fault.Invalid, "deleted mail cannot be asked for by %q", name)
		}
	}
	q, err = readDeletedQuery(in)
	return acct.ID, q, err
}

func readDeletedQuery(in url.Values) (q store.DeletedQuery, err error) {
	q = store.DeletedQuery{Mailbox: in.Get("mailbox"), Subject: in.Get("subject")}
	if s := in.Get("since"); s != "" {
		if q.Since, err = time.Parse(time.RFC3339, s); err != nil {
			return q, fault.Newf(fault.Invalid, "%q is no time such as 2026-03-01T12:00:00Z", s)
		}
	}
	if s := in.Get("uid"); s != "" {
		if q.Mailbox == "" {
			return q, fault.New(fault.Invalid, "UIDs are those of one mailbox; name it")
		}
		if q.UIDs, err = parseUIDs(s); err != nil {
			return q, err
		}
	}
	return q, nil
}

// parseUIDs reads a set of UIDs such as 4,7:9 or 12:*.
func parseUIDs(s string) (set mail.UIDSet, err error) {
	number := func(s string) mail.UID {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return 0
		}
		return mail.UID(n)
	}
	for part := range strings.SplitSeq(s, ",") {
		low, high, isRange := strings.Cut(part, ":")
		from := number(low)
		to := from
		if isRange && high == "*" {
			to = math.MaxUint32
		} else if isRange {
			to = number(high)
		}
		if from == 0 || to == 0 {
			return nil, fault.Newf(fault.Invalid, "%q is no set of UIDs such as 4,7:9", s)
		}
		set.AddRange(from, to)
	}
	return set, nil
}
