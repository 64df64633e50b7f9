package queue

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// maxReturned bounds the header that a report returns.
const maxReturned = 32 << 10

// subject is a recipient that a report speaks of.
type subject struct {
	n int
	*recipient
}

// report tells the sender of a message all that is owed, in one report for each
// kind, and notes that it is told.
func (q *Queue) report(ctx context.Context, a alarm) error {
	id := a.id
	m, owed, err := q.owed(ctx, id)
	if err != nil {
		return err
	}
	if m == nil || m.reportAt != a.at {
		return q.write(ctx, func(w engine.Writer) error { return w.Delete(alarmKey(a.kind, a.id, a.at)) })
	}
	for _, about := range m.byReport(owed) {
		kind := about[0].owed
		err := q.tell(ctx, m, kind, about)
		q.keepReport(m, kind, err)
		if err != nil && fault.Of(err).Temporary() {
			q.opt.Log.Warn("a report cannot be sent now", "queue_id", id.String(), "to", m.env.From.String(), "error", err)
			return q.told(ctx, id, 0, nil)
		}
		if err != nil {
			q.opt.Log.Warn("a report cannot be delivered and is dropped", "queue_id", id.String(), "to", m.env.From.String(), "error", err)
		}
		if err := q.told(ctx, id, kind, about); err != nil {
			return err
		}
	}
	if len(owed) == 0 {
		return q.told(ctx, id, 0, nil)
	}
	return nil
}

// byReport groups those that a report is owed for: one report for each kind, and with VERP
// for each recipient.
func (m *message) byReport(owed []subject) (reports [][]subject) {
	for _, kind := range [...]uint8{owedFailure, owedDelay, owedSuccess} {
		var about []subject
		for _, s := range owed {
			if s.owed == kind && m.env.VERP {
				reports = append(reports, []subject{s})
			} else if s.owed == kind {
				about = append(about, s)
			}
		}
		if len(about) > 0 {
			reports = append(reports, about)
		}
	}
	return reports
}

// owed reads the message and the recipients that a report is owed for.
func (q *Queue) owed(ctx context.Context, id ID) (m *message, owed []subject, err error) {
	err = q.eng.View(ctx, q.shard, func(r engine.Reader) error {
		l := look{r}
		owed = nil
		var ok bool
		if m, ok, err = l.message(id); err != nil || !ok {
			return err
		}
		return l.eachRecipient(m, func(n int, r *recipient) {
			if r.owed != 0 {
				owed = append(owed, subject{n, r})
			}
		})
	})
	return m, owed, err
}

// told notes that a report of a kind was sent. Without one the alarm is set again if
// a report is owed, and removed if none is.
func (q *Queue) told(ctx context.Context, id ID, kind uint8, about []subject) error {
	now := q.now()
	return q.update(ctx, func(t tx) error {
		m, ok, err := t.message(id)
		if err != nil || !ok {
			return err // dropped meanwhile
		}
		if kind == 0 && m.owed > 0 {
			later := now + reportRetry.Milliseconds()
			if err := t.setAlarm(alarmReport, id, m.reportAt, later); err != nil {
				return err
			}
			m.reportAt = later
		}
		for _, s := range about {
			r, err := t.look().recipient(id, s.n)
			if err != nil {
				return err
			}
			if r.owed != kind {
				continue
			}
			r.owed = 0
			m.owed--
			if err := t.putRecipient(id, s.n, r); err != nil {
				return err
			}
		}
		return t.finish(m, now)
	})
}

// tell makes one report and hands it over.
func (q *Queue) tell(ctx context.Context, m *message, kind uint8, about []subject) error {
	parcel, err := q.parcel(ctx, m)
	if err != nil && !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err != nil { // better a report without the message than none
		parcel = nil
	}
	key := reportKey(m.id, kind, about)
	// All of a failed message goes back only if the sender asked for it (RFC 3461,
	// 4.3); binary parts fit into no report.
	// And a message that must not travel in the clear comes back without its body, by a way
	// that is as safe if there is one (RFC 8689, 5).
	full := m.env.Ret == mail.RetFull && kind == owedFailure && !m.env.Binary && parcel != nil && !m.env.RequireTLS
	for {
		d := &dsn{q: q, m: m, kind: kind, about: about, parcel: parcel, full: full, now: q.opt.Now(), key: key}
		env, body, err := d.build(ctx)
		if err != nil {
			return err
		}
		err = q.opt.Report(ctx, key, env, body)
		err = errors.Join(err, body.Close())
		if err == nil || !full || fault.Of(err).Temporary() {
			return err
		}
		full = false // perhaps it was too large
	}
}

// reportKey is the same for the same report, so that a crash between its delivery
// and our note of it makes no second one.
func reportKey(id ID, kind uint8, about []subject) string {
	sum := crc32.NewIEEE()
	for _, s := range about {
		fmt.Fprintf(sum, "%d ", s.n)
	}
	return fmt.Sprintf("report-%s-%d-%08x", id, kind, sum.Sum32())
}

// dsn is a report in the making (RFC 3464).
type dsn struct {
	q        *Queue
	m        *message
	kind     uint8
	about    []subject
	parcel   *store.Parcel // nil if it cannot be read
	full     bool
	now      time.Time
	key      string
	boundary string
	out      bytes.Buffer
}

// to is who gets the report.
func (d *dsn) to() mail.Address { return d.m.sender(d.about[0].Address) }

// utf8 tells whether the report needs SMTPUTF8 (RFC 6533).
func (d *dsn) utf8() bool {
	if !d.m.env.From.IsASCII() || d.m.needsUTF8 {
		return true
	}
	for _, s := range d.about {
		if !s.Address.IsASCII() {
			return true
		}
	}
	return false
}

// build returns the report with its envelope. The message is read as the report is.
func (d *dsn) build(ctx context.Context) (mail.Envelope, io.ReadCloser, error) {
	var random [12]byte
	if _, err := io.ReadFull(d.q.opt.Random, random[:]); err != nil {
		return mail.Envelope{}, nil, err
	}
	d.boundary = "=_report_" + hex.EncodeToString(random[:])
	eight := d.utf8()
	if d.parcel != nil {
		eight = eight || has8Bit(d.parcel.Header()) || d.full && d.m.has8Bit
	}
	d.head(eight)
	d.text()
	d.status()
	tail := fmt.Sprintf("\r\n--%s--\r\n", d.boundary)
	env := mail.Envelope{
		To:       []mail.Recipient{{Address: d.to(), Notify: mail.NotifyNever}},
		Priority: d.m.env.Priority, // RFC 6710, 4.6
		UTF8:     d.utf8(), Body8Bit: eight, Helo: d.q.opt.Hostname, Protocol: "LOCAL", RequireTLS: d.m.env.RequireTLS,
	}
	if d.parcel == nil {
		d.out.WriteString(tail)
		return env, io.NopCloser(&d.out), nil
	}
	original, err := d.original(ctx, eight)
	if err != nil {
		return mail.Envelope{}, nil, err
	}
	return env, struct {
		io.Reader
		io.Closer
	}{io.MultiReader(&d.out, original, strings.NewReader(tail)), original}, nil
}

func has8Bit(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

func (d *dsn) line(format string, args ...any) {
	fmt.Fprintf(&d.out, format, args...)
	d.out.WriteString("\r\n")
}

func (d *dsn) title() string {
	switch d.kind {
	case owedFailure:
		return "Your message could not be delivered"
	case owedDelay:
		return "Your message is delayed"
	}
	if d.m.road == Local {
		return "Your message was delivered"
	}
	return "Your message was passed on"
}

// head writes the header. Null sender, Auto-Submitted and no request for anything:
// nothing may answer a report (RFC 3834; RFC 3464, 2).
func (d *dsn) head(eight bool) {
	d.line("From: Mail Delivery System <MAILER-DAEMON@%s>", d.q.opt.Hostname)
	d.line("To: %s", d.to())
	d.line("Subject: %s", d.title())
	d.line("Date: %s", d.now.Format(time.RFC1123Z))
	d.line("Message-ID: <%s@%s>", d.key, d.q.opt.Hostname)
	if d.parcel != nil {
		if id := d.parcel.Message().MessageID; id != "" && len(id) < 900 && printable(id) {
			d.line("References: <%s>", id)
		}
	}
	d.line("Auto-Submitted: auto-replied")
	d.line("MIME-Version: 1.0")
	d.line("Content-Type: multipart/report; report-type=delivery-status;")
	d.line(" boundary=\"%s\"", d.boundary)
	d.encoding(eight)
	d.line("")
}

func (d *dsn) encoding(eight bool) {
	if eight {
		d.line("Content-Transfer-Encoding: 8bit")
	}
}

// printable tells whether s can stand in a header field as it is.
func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '<' || s[i] == '>' {
			return false
		}
	}
	return true
}

// safe makes words fit for a line of the report.
func (d *dsn) safe(s string) string {
	utf8 := d.utf8()
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && !utf8 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// text writes the part for people: what happened, to whom, what to do.
func (d *dsn) text() {
	d.line("--%s", d.boundary)
	d.line("Content-Type: text/plain; charset=utf-8")
	d.encoding(d.utf8())
	d.line("")
	d.line("This is the mail server %s.", d.q.opt.Hostname)
	d.line("")
	switch d.kind {
	case owedFailure:
		d.line("Your message could not be delivered to the addresses below, and nothing")
		d.line("more will be tried for them.")
	case owedDelay:
		d.line("Your message has not been delivered to the addresses below yet. You need")
		d.line("not do anything: it will be tried for another %s. If that fails, too,", span(d.left()))
		d.line("you will be told.")
	default:
		if d.m.road == Local {
			d.line("Your message is in the mailbox of the addresses below.")
			break
		}
		d.line("Your message was handed to the mail server of the addresses below. That")
		d.line("server does not report what becomes of it.")
	}
	d.line("")
	for _, s := range d.about {
		d.line("  %s", d.safe(s.Address.String()))
		if d.kind != owedSuccess {
			d.line("    %s", d.safe(d.happened(s)))
		}
		if d.kind == owedFailure && d.m.returns() && s.expired() {
			d.line("    The time that you gave for its delivery is over. Send it again without, or")
			d.line("    reach the recipient another way.")
		} else if d.kind == owedFailure {
			d.line("    %s", advice(d.code(s)))
		}
		d.line("")
	}
	d.message()
}

func (d *dsn) left() time.Duration {
	return max(0, time.UnixMilli(d.m.expires).Sub(d.now))
}

// happened says what became of a recipient, as a sentence.
func (d *dsn) happened(s subject) string {
	said := sentence(s.result)
	if said == "" {
		said = "no attempt has been made yet"
	}
	if d.kind == owedFailure && s.expired() {
		waited := max(0, time.Duration(d.now.UnixMilli()-d.m.created)*time.Millisecond)
		return fmt.Sprintf("Tried for %s, the last time: %s", span(waited), said)
	}
	return said
}

// expired tells whether a failed recipient failed because its time was over.
func (r *recipient) expired() bool { return r.state == failed && r.result.Code/100 != 5 }

// code is the status of a recipient (RFC 3464, 2.3.4; RFC 3463 for 5.4.7 and 4.4.7).
func (d *dsn) code(s subject) string {
	switch {
	case d.kind == owedFailure && s.expired():
		return "5.4.7"
	case d.kind == owedDelay && (s.result.Code/100 != 4 || d.overdue()):
		return "4.4.7"
	}
	return status(s.result)
}

// overdue tells whether the report is of a deadline that is past (RFC 2852, 4.1.3).
func (d *dsn) overdue() bool {
	return d.m.env.By.Mode == mail.ByNotify && d.now.UnixMilli() >= d.m.deadline()
}

// message says which message the report is about.
func (d *dsn) message() {
	if d.parcel == nil {
		d.line("The message itself cannot be read any more.")
		return
	}
	info := d.parcel.Message()
	d.line("The message came in on %s.", time.UnixMilli(d.m.created).In(d.now.Location()).Format(time.RFC1123Z))
	if subject := d.safe(info.Subject); subject != "" {
		if len(subject) > 200 {
			subject = strings.ToValidUTF8(subject[:200], "") + "..."
		}
		d.line("Its subject was: %s", subject)
	}
	if d.full {
		d.line("It is attached.")
	} else {
		d.line("Its header is attached.")
	}
}

// status writes the part for programs (RFC 3464, 2.2 and 2.3).
func (d *dsn) status() {
	kind := "message/delivery-status"
	if d.utf8() {
		kind = "message/global-delivery-status"
	}
	d.line("")
	d.line("--%s", d.boundary)
	d.line("Content-Type: %s", kind)
	d.encoding(d.utf8())
	d.line("")
	if d.m.env.EnvID != "" {
		d.line("Original-Envelope-Id: %s", d.safe(d.m.env.EnvID))
	}
	d.line("Reporting-MTA: dns; %s", d.q.opt.Hostname)
	if d.m.env.Helo != "" {
		d.line("Received-From-MTA: dns; %s", d.safe(d.m.env.Helo))
	}
	d.line("Arrival-Date: %s", time.UnixMilli(d.m.created).In(d.now.Location()).Format(time.RFC1123Z))
	if d.m.env.By.Mode != mail.ByNone { // RFC 2852, 5
		d.line("Deliver-By-Date: %s", d.m.env.By.At.In(d.now.Location()).Format(time.RFC1123Z))
	}
	if d.m.env.Release != "" { // RFC 4865, 5.1.2
		d.line("Future-Release-Request: %s", d.safe(d.m.env.Release))
	}
	for _, s := range d.about {
		d.line("")
		d.recipient(s)
	}
}

func (d *dsn) recipient(s subject) {
	if s.ORcpt != "" {
		kind, addr, _ := strings.Cut(s.ORcpt, ";")
		d.line("Original-Recipient: %s; %s", d.safe(kind), d.safe(addr))
	}
	kind := "rfc822"
	if !s.Address.IsASCII() {
		kind = "utf-8"
	}
	d.line("Final-Recipient: %s; %s", kind, d.safe(s.Address.String()))
	action := "failed"
	switch {
	case d.kind == owedDelay:
		action = "delayed"
	case d.kind == owedSuccess && d.m.road == Local:
		action = "delivered"
	case d.kind == owedSuccess:
		action = "relayed"
	}
	d.line("Action: %s", action)
	d.line("Status: %s", d.code(s))
	if s.result.Host != "" {
		d.line("Remote-MTA: dns; %s", d.safe(strings.Trim(s.result.Host, "[]")))
		d.line("Diagnostic-Code: smtp; %s", d.safe(diagnostic(s.result)))
	}
	if s.at != 0 {
		d.line("Last-Attempt-Date: %s", time.UnixMilli(s.at).In(d.now.Location()).Format(time.RFC1123Z))
	}
	if d.kind == owedDelay {
		d.line("Will-Retry-Until: %s", time.UnixMilli(d.m.expires).In(d.now.Location()).Format(time.RFC1123Z))
	}
}

// original writes the head of the third part and returns its content: the message,
// or its header.
func (d *dsn) original(ctx context.Context, eight bool) (io.ReadCloser, error) {
	global := d.utf8()
	kind := map[[2]bool]string{
		{false, false}: "text/rfc822-headers", {false, true}: "message/global-headers",
		{true, false}: "message/rfc822", {true, true}: "message/global",
	}[[2]bool{d.full, global}]
	d.line("")
	d.line("--%s", d.boundary)
	d.line("Content-Type: %s", kind)
	d.encoding(eight)
	d.line("")
	if d.full {
		return d.parcel.Open(ctx, 0, -1)
	}
	h := d.parcel.Header()
	if len(h) > maxReturned {
		h = h[:bytes.LastIndexByte(h[:maxReturned], '\n')+1]
	}
	return io.NopCloser(bytes.NewReader(h)), nil
}
