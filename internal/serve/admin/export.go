package admin

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/account"
	"github.com/martlet-mail/martlet/internal/store"
)

// The way out of an account. The forms are those of internal/move/account.

// listExport tells which mailboxes there are to take out: all but the one of deleted mail,
// and what is subscribed without having a mailbox.
func (a *api) listExport(r *request) error {
	acct, err := a.lookup(r)
	if err != nil {
		return err
	}
	var lines []account.Mailbox
	err = a.Store.Account(acct.ID).View(r.ctx, func(s *store.Snapshot) error {
		boxes, err := s.Mailboxes()
		if err != nil {
			return err
		}
		subscribed, names, err := subscriptions(s)
		if err != nil {
			return err
		}
		lines = nil
		for _, b := range boxes {
			if s.Accepts(b.ID) == nil {
				lines = append(lines, account.Mailbox{ID: b.ID, Name: b.Name, Role: b.Role, Subscribed: subscribed[b.Name],
					UIDValidity: b.UIDValidity, UIDNext: b.UIDNext, Messages: b.Messages, Bytes: b.Bytes})
			}
			delete(subscribed, b.Name)
		}
		for _, n := range names {
			if subscribed[n] {
				lines = append(lines, account.Mailbox{Name: n, Subscribed: true})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, line := range lines {
		if err := r.send(line); err != nil {
			return err
		}
	}
	return r.send(account.End{Done: true})
}

// exportBatch is how many messages one snapshot is asked of: no snapshot is held while
// something is written to the caller.
const exportBatch = 200

// exportMessages tells of the messages of a mailbox, with their bytes if that is asked for.
func (a *api) exportMessages(r *request) error {
	acct, err := a.lookup(r)
	if err != nil {
		return err
	}
	x, err := readExportQuery(r.Request)
	if err != nil {
		return err
	}
	x.account = a.Store.Account(acct.ID)
	if _, err := x.account.Picture(r.ctx, x.box); err != nil {
		return err
	}
	// From here on a failure is the last line.
	r.w.Header().Set("Content-Type", "application/octet-stream")
	x.w = bufio.NewWriterSize(r.w, 64<<10)
	x.line = json.NewEncoder(x.w)
	r.sent = true
	if err := x.all(r.ctx); err != nil {
		x.w.Flush()
		return err
	}
	return nil
}

// exporter answers one such call.
type exporter struct {
	account *store.Account
	box     mail.MailboxID
	set     mail.UIDSet
	left    int
	bodies  bool
	w       *bufio.Writer
	line    *json.Encoder
}

func readExportQuery(r *http.Request) (*exporter, error) {
	box, err := strconv.ParseUint(r.PathValue("mailbox"), 10, 64)
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "%q is no number of a mailbox", r.PathValue("mailbox"))
	}
	x := &exporter{box: mail.MailboxID(box), set: store.All(), left: account.MaxLines}
	q := r.URL.Query()
	for name := range q {
		switch name {
		case "uids", "bodies", "limit":
		default:
			return nil, fault.Newf(fault.Invalid, "messages cannot be asked for by %q", name)
		}
	}
	if s := q.Get("uids"); s != "" {
		if len(s) > account.MaxSet {
			return nil, fault.New(fault.Invalid, "the set of UIDs is too long")
		}
		if x.set, err = parseUIDs(s); err != nil {
			return nil, err
		}
	}
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, fault.Newf(fault.Invalid, "%q is no number of messages", s)
		}
		x.left = min(n, x.left)
	}
	x.bodies = q.Get("bodies") == "yes"
	return x, nil
}

// all tells of batch after batch. A picture of the mailbox is taken for each, so flags are
// those of then, and what has been expunged meanwhile is passed over.
func (x *exporter) all(ctx context.Context) error {
	for from := mail.UID(1); ; {
		rows, next, err := x.batch(ctx, from)
		if err != nil {
			return err
		}
		for _, m := range rows {
			if err := x.one(ctx, m); err != nil {
				return err
			}
		}
		if from = next; from == 0 || x.left == 0 {
			if err := x.line.Encode(account.End{Done: true, More: from != 0, Next: from}); err != nil {
				return gone(err)
			}
			return gone(x.w.Flush())
		}
	}
}

func gone(err error) error {
	if err == nil {
		return nil
	}
	return unsent(err)
}

// exported is a message that is to be told of.
type exported struct {
	account.Message
	id mail.MessageID
}

// batch finds the next messages; next is 0 if there are none after them.
func (x *exporter) batch(ctx context.Context, from mail.UID) (rows []exported, next mail.UID, err error) {
	pic, err := x.account.Picture(ctx, x.box)
	if err != nil {
		return nil, 0, err
	}
	for _, m := range pic.Messages(after(x.set, from)) {
		if len(rows) == min(exportBatch, x.left) {
			next = m.UID
			break
		}
		e := exported{id: m.ID}
		e.UID, e.Size, e.Date = m.UID, m.Size, time.Unix(m.Internal, 0).UTC()
		e.Flags, e.Keywords = account.FlagNames(m.Flags), append([]string{}, pic.Keywords(m)...)
		rows = append(rows, e)
	}
	x.left -= len(rows)
	var large []int
	err = x.account.View(ctx, func(s *store.Snapshot) error {
		large = large[:0]
		for i := range rows {
			whole, err := x.describe(s, &rows[i])
			if err != nil {
				return err
			}
			if !whole {
				large = append(large, i)
			}
		}
		return nil
	})
	for _, i := range large {
		if err == nil {
			err = x.hash(ctx, &rows[i])
		}
	}
	return rows, next, err
}

// describe finds the hash of a message. whole is false if its header is kept in two pieces,
// so that it has to be read for that. One that cannot be read says so; one that has gone
// has no id any more.
func (x *exporter) describe(s *store.Snapshot, e *exported) (whole bool, err error) {
	head, err := s.Head(nil, e.id)
	if err == nil {
		var f store.Facts
		f, err = s.Facts(e.id)
		e.ID = messageID(f.Envelope)
	}
	if err == nil {
		if !store.WholeHeader(head) {
			return false, nil
		}
		var print [32]byte
		print, err = s.Fingerprint(e.id)
		e.Content = hex.EncodeToString(print[:])
	}
	return true, e.pass(x.missing(s, e, err))
}

// missing tells a message whose records have been lost from one that was expunged meanwhile: its
// mailbox still has it.
func (x *exporter) missing(s *store.Snapshot, e *exported, err error) error {
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	m, there := s.Message(x.box, e.UID)
	switch {
	case there == nil && m.ID == e.id:
		return fault.Wrap(fault.Corrupt, "the message is damaged: not all of it is there any more", err)
	case there == nil:
		return err
	}
	return there
}

// missingNow is missing of what was read without a snapshot.
func (x *exporter) missingNow(ctx context.Context, e *exported, err error) error {
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	return x.account.View(ctx, func(s *store.Snapshot) error { return x.missing(s, e, err) })
}

// messageID returns the last field of an ENVELOPE in wire form, without its brackets; "" if
// it is no quoted string.
func messageID(envelope []byte) string {
	s, ok := strings.CutSuffix(string(envelope), `")`)
	if !ok {
		return ""
	}
	id := s[strings.LastIndexByte(s, '"')+1:]
	if strings.Contains(id, `\`) || len(id) > 998 {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(id, "<"), ">")
}

// pass keeps what is wrong with one message from ending the answer.
func (e *exported) pass(err error) error {
	switch {
	case err == nil:
		return nil
	case fault.Is(err, fault.NotFound):
		e.id = 0
		return nil
	case fault.Is(err, fault.Corrupt):
		e.Error = fault.Say(err)
		return nil
	}
	return err
}

// hash reads a message to find its hash.
func (x *exporter) hash(ctx context.Context, e *exported) error {
	r, err := x.account.Open(ctx, e.id, 0, -1)
	if err == nil {
		var h move.Summer
		_, err = io.Copy(&h, r)
		r.Close()
		sum := h.Content()
		e.Content = hex.EncodeToString(sum[:])
	}
	return e.pass(x.missingNow(ctx, e, err))
}

// one tells of a message.
func (x *exporter) one(ctx context.Context, e exported) error {
	if e.id == 0 {
		return nil
	}
	if !x.bodies || e.Error != "" {
		return gone(x.line.Encode(e.Message))
	}
	r, err := x.account.Open(ctx, e.id, 0, -1)
	err = x.missingNow(ctx, &e, err)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err == nil:
		defer r.Close()
	case e.pass(err) != nil:
		return err
	default:
		return gone(x.line.Encode(e.Message))
	}
	if err := x.line.Encode(e.Message); err != nil {
		return gone(err)
	}
	n, err := io.Copy(x.w, io.LimitReader(r, e.Size))
	var after account.After
	if n < e.Size {
		if err == nil {
			err = fault.New(fault.Corrupt, "the message is shorter than it should be")
		}
		if after.Error = fault.Say(err); after.Error == "" {
			after.Error = "it cannot be read"
		}
		if _, err := io.CopyN(x.w, zeros{}, e.Size-n); err != nil {
			return gone(err)
		}
	}
	return gone(x.line.Encode(after))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// after returns what of a set is not below a UID.
func after(set mail.UIDSet, from mail.UID) mail.UIDSet {
	var out mail.UIDSet
	for _, r := range set {
		if r.To >= from {
			out = append(out, mail.Range{From: max(r.From, from), To: r.To})
		}
	}
	return out
}
