// Package milter has outside programs look at a message, such as rspamd and clamav-milter:
// the client side of the milter protocol, version 2 to 6, over package go-milter.
//
// A program is asked once, when the message is whole: it is told the connection, the
// envelope, the header and the body in one go, and answers what is to be done and what is
// to be changed. The package applies changes to the header and hands back those of the
// body; it stores nothing and decides nothing: what becomes of a message when its program
// does not answer is the caller's to say.
package milter

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	protocol "github.com/d--j/go-milter"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Options of a Filter. All but Version must be given.
type Options struct {
	Name     string        // of the program, for people
	Network  string        // "tcp" or "unix"
	Address  string        // host:port, or the path of a socket
	Timeout  time.Duration // of one step; a message may take several
	Hostname string        // ours
	Version  string        // of this program, for macro v
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

// Filter asks one program. It may be used by many goroutines.
type Filter struct{ opt Options }

// New returns a filter; nothing is connected before Ask.
func New(o Options) *Filter { return &Filter{o} }

// Name returns the program's name.
func (f *Filter) Name() string { return f.opt.Name }

// Message is what a program is shown.
type Message struct {
	Envelope mail.Envelope
	Reverse  string // name of the client's address that leads back to it; "" if there is none
	Header   []byte // without the empty line
	Cut      bool   // Header is only the first part of it: fields can be put in front, no more
	Body     func(context.Context) (io.ReadCloser, error)
}

// Verb is what a program wants done with a message.
type Verb uint8

const (
	Accept     Verb = iota
	Reject          // with Outcome.Code and its text
	Retry           // refuse for now
	Discard         // take it and throw it away
	Quarantine      // keep it apart
)

// Outcome is the answer of a program.
type Outcome struct {
	Verb     Verb
	Code     int           // of SMTP, for Reject and Retry
	Enhanced string        // such as "5.7.1"
	Text     string        // the program's words; for Quarantine its reason
	Header   []byte        // nil: it stays as it was
	Front    []byte        // fields to put in front, of a message whose header was cut
	Refused  []int         // recipients that it would not take, if it takes others
	Body     []byte        // nil: it stays as it was
	From     *mail.Address // nil: he stays
	Add      []mail.Address
	Remove   []mail.Address
}

// Ask has the program look at a message. A fault is of kind Unavailable: the program
// cannot be reached, or speaks another language.
func (f *Filter) Ask(ctx context.Context, m Message) (Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	line := &dialled{ctx: ctx, dial: f.opt.Dial}
	c := protocol.NewClient(f.opt.Network, f.opt.Address, protocol.WithDialer(line),
		protocol.WithReadTimeout(f.opt.Timeout), protocol.WithWriteTimeout(f.opt.Timeout))
	s, err := c.Session(f.macros(m))
	if err != nil {
		return Outcome{}, f.failed(err)
	}
	defer s.Close()
	d := dialogue{s: s, m: m}
	if err := d.speak(ctx); err != nil {
		return Outcome{}, f.failed(err)
	}
	out, err := d.outcome()
	if err != nil {
		return Outcome{}, f.failed(err)
	}
	return out, nil
}

func (f *Filter) failed(err error) error {
	return fault.Wrap(fault.Unavailable, "the filter "+f.opt.Name+" does not answer", err)
}

// dialled makes a connection that ends with its context.
type dialled struct {
	ctx  context.Context
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (d *dialled) Dial(network, address string) (net.Conn, error) {
	nc, err := d.dial(d.ctx, network, address)
	if err == nil {
		context.AfterFunc(d.ctx, func() { nc.Close() })
	}
	return nc, err
}

// macros are what programs ask for beside the protocol itself, in Sendmail's names.
func (f *Filter) macros(m Message) protocol.Macros {
	env := &m.Envelope
	bag := protocol.NewMacroBag()
	set := func(name protocol.MacroName, value string) {
		if value != "" {
			bag.Set(name, value)
		}
	}
	set(protocol.MacroMTAFQDN, f.opt.Hostname)
	set(protocol.MacroMTAVersion, f.opt.Version)
	set(protocol.MacroDaemonName, f.opt.Hostname)
	set(protocol.MacroQueueId, env.ID)
	set(protocol.MacroClientAddr, env.Peer)
	set(protocol.MacroClientName, clientName(m))
	set(protocol.MacroClientPTR, m.Reverse)
	version, cipher, _ := strings.Cut(env.TLS, " ")
	set(protocol.MacroTlsVersion, version)
	set(protocol.MacroCipher, cipher)
	if env.Login != "" {
		set(protocol.MacroAuthAuthen, env.Login)
		set(protocol.MacroAuthType, "PLAIN")
	}
	set(protocol.MacroMailAddr, env.From.String())
	set(protocol.MacroMailHost, env.From.Domain)
	set(protocol.MacroMailMailer, "esmtp")
	return bag
}

// clientName is the client's name as milters expect it.
func clientName(m Message) string {
	switch {
	case m.Reverse != "":
		return m.Reverse
	case m.Envelope.Peer == "":
		return "localhost"
	}
	return "[" + m.Envelope.Peer + "]"
}

// dialogue is one message under way.
type dialogue struct {
	s       *protocol.ClientSession
	m       Message
	changes []protocol.ModifyAction
	last    *protocol.Action
	refused []int // recipients
}

var errOver = errors.New("decided")

// speak goes through all steps, until the program has decided.
func (d *dialogue) speak(ctx context.Context) error {
	for _, step := range []func(context.Context) error{d.connection, d.envelope, d.header, d.body} {
		if err := step(ctx); err == errOver {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// did looks at the answer to a step: only "continue" leads to the next.
func (d *dialogue) did(a *protocol.Action, err error) error {
	if err != nil {
		return err
	}
	d.last = a
	if a.Type != protocol.ActionContinue {
		return errOver
	}
	return nil
}

func (d *dialogue) connection(context.Context) error {
	family, host := protocol.FamilyUnknown, ""
	if a, err := netip.ParseAddr(d.m.Envelope.Peer); err == nil {
		family, host = protocol.FamilyInet, a.String()
		if a.Is6() {
			family = protocol.FamilyInet6
		}
	}
	if err := d.did(d.s.Conn(clientName(d.m), family, 0, host)); err != nil {
		return err
	}
	return d.did(d.s.Helo(d.m.Envelope.Helo))
}

func (d *dialogue) envelope(context.Context) error {
	if err := d.did(d.s.Mail(d.m.Envelope.From.String(), "")); err != nil {
		return err
	}
	for i, to := range d.m.Envelope.To {
		a, err := d.s.Rcpt(to.Address.String(), "")
		if err != nil {
			return err
		}
		if d.last = a; a.Type == protocol.ActionAccept || a.Type == protocol.ActionDiscard {
			return errOver
		}
		if a.StopProcessing() {
			if d.refused = append(d.refused, i); len(d.refused) == len(d.m.Envelope.To) {
				return errOver
			}
		}
	}
	return d.did(d.s.DataStart())
}

// header shows the fields, lines ending in LF as milters are used to.
func (d *dialogue) header(context.Context) error {
	spaced := d.s.ProtocolOption(protocol.OptHeaderLeadingSpace)
	for _, f := range fields(d.m.Header) {
		if f.name == "" {
			continue
		}
		value := strings.ReplaceAll(strings.TrimSuffix(f.value, "\r\n"), "\r\n", "\n")
		if !spaced {
			value = strings.TrimPrefix(value, " ")
		}
		if err := d.did(d.s.HeaderField(strings.TrimRight(f.name, " \t"), value, nil)); err != nil {
			return err
		}
		if d.s.Skip() {
			break
		}
	}
	return d.did(d.s.HeaderEnd())
}

func (d *dialogue) body(ctx context.Context) error {
	r, err := d.m.Body(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	changes, a, err := d.s.BodyReadFrom(r)
	if err != nil {
		return err
	}
	d.changes, d.last = changes, a
	return nil
}

// outcome puts the answer together.
func (d *dialogue) outcome() (Outcome, error) {
	out := Outcome{Verb: Accept, Refused: d.refused}
	switch d.last.Type {
	case protocol.ActionReject:
		return refusal(Reject, 550, "5.7.1", "refused by a filter"), nil
	case protocol.ActionTempFail:
		return refusal(Retry, 451, "4.7.1", "a filter asks to try again later"), nil
	case protocol.ActionRejectWithCode:
		return replied(d.last), nil
	case protocol.ActionDiscard:
		return Outcome{Verb: Discard, Text: "thrown away by a filter"}, nil
	}
	return out, d.apply(&out)
}

func refusal(v Verb, code int, enhanced, text string) Outcome {
	return Outcome{Verb: v, Code: code, Enhanced: enhanced, Text: text}
}

// replied is a refusal in the program's own words: "550 5.7.1 text", its lines joined.
func replied(a *protocol.Action) Outcome {
	out := refusal(Reject, int(a.SMTPCode), "5.7.1", "")
	if a.SMTPCode/100 == 4 {
		out.Verb, out.Enhanced = Retry, "4.7.1"
	}
	var words []string
	for line := range strings.Lines(a.SMTPReply) {
		line = strings.TrimSpace(line)
		if len(line) >= 4 {
			if _, err := strconv.Atoi(line[:3]); err == nil {
				line = line[4:]
			}
		}
		if code, rest, ok := strings.Cut(line, " "); ok && strings.Count(code, ".") == 2 && code[0] == strconv.Itoa(out.Code)[0] {
			out.Enhanced, line = code, rest
		}
		words = append(words, line)
	}
	if out.Text = clean(strings.Join(words, " ")); out.Text == "" {
		out.Text = "refused by a filter"
	}
	return out
}

// clean keeps a program's words on one line of SMTP.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.Join(strings.Fields(s), " "))
	return s[:min(len(s), 400)]
}

// apply makes the changes that the program has asked for.
func (d *dialogue) apply(out *Outcome) error {
	head := &editor{spaced: d.s.ProtocolOption(protocol.OptHeaderLeadingSpace)}
	if !d.m.Cut {
		head.fields = fields(d.m.Header)
	}
	var body bytes.Buffer
	replaced := false
	for _, c := range d.changes {
		switch c.Type {
		case protocol.ActionAddHeader:
			head.insert(len(head.fields), c.HeaderName, c.HeaderValue)
		case protocol.ActionInsertHeader:
			head.insert(int(min(c.HeaderIndex, 1<<20)), c.HeaderName, c.HeaderValue)
		case protocol.ActionChangeHeader:
			if d.m.Cut { // nobody knows which one is meant
				continue
			}
			head.change(int(min(c.HeaderIndex, 1<<20)), c.HeaderName, c.HeaderValue)
		case protocol.ActionReplaceBody:
			body.Write(c.Body)
			replaced = true
		case protocol.ActionQuarantine:
			out.Verb, out.Text = Quarantine, clean(c.Reason)
		case protocol.ActionChangeFrom:
			a, err := address(c.From)
			if err != nil {
				return err
			}
			out.From = &a
		case protocol.ActionAddRcpt:
			a, err := address(c.Rcpt)
			if err != nil {
				return err
			}
			out.Add = append(out.Add, a)
		case protocol.ActionDelRcpt:
			a, err := address(c.Rcpt)
			if err != nil {
				return err
			}
			out.Remove = append(out.Remove, a)
		}
	}
	switch {
	case head.changed && d.m.Cut:
		out.Front = head.bytes()
	case head.changed:
		out.Header = head.bytes()
	}
	switch {
	case replaced && d.m.Cut: // where the body begins is not known either
		out.Verb, out.Text = Quarantine, "its header is too long for a filter to change it"
	case replaced:
		out.Body = body.Bytes()
	}
	return nil
}

func address(path string) (mail.Address, error) {
	text := strings.TrimSuffix(strings.TrimPrefix(path, "<"), ">")
	if text == "" {
		return mail.Address{}, nil
	}
	return mail.ParseAddress(text)
}
