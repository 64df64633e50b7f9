package outward

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
)

// Server is an account at another server that mail goes to; imapsource.Source is one.
type Server interface {
	move.Source
	CreateMailbox(ctx context.Context, name string, role mail.Role, subscribed bool) (source string, err error)
	Append(ctx context.Context, source string, list []imapc.Appending, ids []string) ([]imapsource.Appended, error)
	Delete(ctx context.Context, source string, keys []string, trash bool) error
	SetFlags(ctx context.Context, source string, keys []string, how imapc.Storing, flags mail.Flags, keywords []string) error
	Subscribe(ctx context.Context, source string, on bool) error
}

// ServerOptions say what goes to a server, and how.
type ServerOptions struct {
	Source    Source
	Server    Server
	Spool     Spool
	Mailboxes []string // patterns, as in Options
	KeepNames bool     // roles do not count: a mailbox goes to the one of its name
	// Proof reads everything back from the server and compares the bytes. Else what the server
	// says of the messages is compared: Message-ID, size, date and flags.
	Proof bool
	// Unsettled: an export before this one was stopped a moment ago. What it had sent last may
	// become mail only now: it is waited for until nothing comes any more.
	Unsettled bool
	Progress  func(Progress)
	Wait      func(ctx context.Context, d time.Duration) error
}

// tries is how often in a row a batch is begun again after the connection broke.
const tries = 5

// RunServer takes an account to another server. What is there already is found by
// Message-ID and size, and is not brought again: so no state is kept, and an export that was
// stopped goes on. Flags that are missing there are set, none are taken away.
func RunServer(ctx context.Context, o ServerOptions) (*Report, error) {
	r := &serverRun{ServerOptions: o, report: &Report{Mailboxes: []Result{}, Skipped: []Skip{}}}
	list, err := o.Source.Mailboxes(ctx)
	if err != nil {
		return r.report, err
	}
	if list = slices.DeleteFunc(list, func(m move.Mailbox) bool { return !Matches(o.Mailboxes, m.Name) }); len(list) == 0 {
		return r.report, fault.New(fault.NotFound, "the account has no mailbox of such a name")
	}
	if r.there, err = o.Server.Mailboxes(ctx); err != nil {
		return r.report, err
	}
	for _, m := range list {
		r.done.Total += m.Messages
	}
	taken := map[string]bool{}
	targets := make([]*move.Mailbox, len(list))
	for i, m := range list {
		if targets[i], err = r.mailbox(ctx, m, taken); err != nil {
			return r.report, err
		}
	}
	for i, m := range list { // when all is there
		if targets[i] == nil {
			continue
		}
		v := &sender{serverRun: r, to: *targets[i], result: &r.report.Mailboxes[i]}
		if err := v.prove(ctx, m); err != nil {
			return r.report, err
		}
	}
	return r.report, nil
}

// serverRun is an export to a server under way.
type serverRun struct {
	ServerOptions
	report *Report
	there  []move.Mailbox
	done   Progress
}

// target finds the mailbox that one goes into: the one with its role, the one of its name, or a
// new one.
func (r *serverRun) target(ctx context.Context, m move.Mailbox, taken map[string]bool) (move.Mailbox, error) {
	i := -1
	if m.Role != "" && !r.KeepNames {
		i = slices.IndexFunc(r.there, func(t move.Mailbox) bool { return t.Role == m.Role && !taken[t.Source] })
	}
	if i < 0 {
		i = slices.IndexFunc(r.there, func(t move.Mailbox) bool { return t.Name == m.Name })
	}
	if i >= 0 {
		t := r.there[i]
		taken[t.Source] = true
		if m.Subscribed && !t.Subscribed {
			return t, r.Server.Subscribe(ctx, t.Source, true)
		}
		return t, nil
	}
	name := m.Name
	source, err := r.Server.CreateMailbox(ctx, name, m.Role, m.Subscribed)
	if isRefusal(err) { // servers differ in what they take
		if name = plainName(m.Name); name != m.Name {
			source, err = r.Server.CreateMailbox(ctx, name, m.Role, m.Subscribed)
		}
	}
	if isRefusal(err) && m.Role != "" {
		source, err = r.Server.CreateMailbox(ctx, name, "", m.Subscribed)
	}
	if err != nil {
		return move.Mailbox{}, err
	}
	t := move.Mailbox{Name: name, Source: source, Role: m.Role, Subscribed: m.Subscribed}
	taken[source] = true
	r.there = append(r.there, t)
	return t, nil
}

// isRefusal tells that the server does not want a mailbox of that name.
func isRefusal(err error) bool {
	return imapc.ProblemOf(err) == imapc.No || imapc.ProblemOf(err) == imapc.Bad || fault.Is(err, fault.Invalid)
}

// plainName is a name with nothing in it but letters, digits, blanks and what any server takes.
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" /-_,()", r) {
			return r
		}
		return '_'
	}, name)
}

// mailbox takes one to the server and returns where it went, nil if nowhere.
func (r *serverRun) mailbox(ctx context.Context, m move.Mailbox, taken map[string]bool) (*move.Mailbox, error) {
	r.report.Mailboxes = append(r.report.Mailboxes, Result{Mailbox: m.Name})
	res := &r.report.Mailboxes[len(r.report.Mailboxes)-1]
	to, err := r.target(ctx, m, taken)
	if isRefusal(err) {
		res.Error = "the server does not make the mailbox: " + fault.Say(err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	res.Path = to.Name
	v := &sender{serverRun: r, to: to, result: res}
	if err := v.settled(ctx, m.Messages); err != nil {
		return nil, err
	}
	err = r.Source.Read(ctx, m, move.Reading{}, v)
	for _, then := range []func(context.Context) error{v.flush, v.flags, v.untwin} {
		if err == nil {
			err = then(ctx)
		}
	}
	if fault.Is(err, fault.NotFound) {
		res.Error = "the mailbox was deleted meanwhile"
		return nil, nil
	}
	return &to, err
}

// like is what two messages have in common that are held for the same one.
type like struct {
	id   string
	size int64
	date int64 // if there is no id
}

func likeOf(id string, size int64, date time.Time) like {
	if id != "" {
		return like{id: id, size: size}
	}
	return like{size: size, date: date.Unix()}
}

// present is a message at the server.
type present struct {
	key      string
	flags    mail.Flags
	keywords string
	date     int64
}

// Bounds of what waits to be sent at once.
const (
	sendMessages = 100
	sendBytes    = 4 << 20
)

// sender takes a mailbox to the server.
type sender struct {
	*serverRun
	to      move.Mailbox
	result  *Result
	have    map[like][]present // at the server, not taken by any of ours yet
	all     map[like]int       // how many are at the server, as far as is known
	own     map[like][]string  // keys of those that were sent now
	waiting []*letterOut
	held    int64
	missing map[flagSet][]string // keys of messages by the flags that they lack
}

type flagSet struct {
	flags    mail.Flags
	keywords string
}

// letterOut is a message on its way.
type letterOut struct {
	item move.Item
	like like
	text text
}

// look reads what is at the server.
func (v *sender) look(ctx context.Context) error {
	l := &looker{have: map[like][]present{}}
	err := v.Server.Read(ctx, v.to, move.Reading{Plan: true}, l)
	v.have, v.all = l.have, map[like]int{}
	for k, list := range l.have {
		v.all[k] = len(list)
	}
	return err
}

// settled is look when nothing comes any more. The export before was at the first mailbox
// that is not complete.
func (v *sender) settled(ctx context.Context, messages int64) error {
	if err := v.look(ctx); err != nil || !v.Unsettled {
		return err
	}
	for _, n := range v.all {
		messages -= int64(n)
	}
	if messages <= 0 {
		return nil
	}
	v.Unsettled = false
	for range 30 {
		before := v.all
		if err := v.Wait(ctx, time.Second); err != nil {
			return err
		}
		if err := v.look(ctx); err != nil {
			return err
		}
		if maps.Equal(before, v.all) {
			return nil
		}
	}
	return nil
}

// looker gathers what is said of messages.
type looker struct{ have map[like][]present }

func (l *looker) Want(_ context.Context, items []move.Item) ([]bool, error) {
	for _, it := range items {
		k := likeOf(it.MessageID, it.Size, it.Date)
		l.have[k] = append(l.have[k], present{strings.Clone(it.Key), it.Flags, joined(it.Keywords), it.Date.Unix()})
	}
	return make([]bool, len(items)), nil
}
func (l *looker) Put(context.Context, move.Item, io.Reader) error { return nil }
func (l *looker) Skip(context.Context, move.Item, error) error    { return nil }
func (l *looker) Gone(context.Context, []string) error            { return nil }
func (l *looker) State(context.Context, []byte) error             { return nil }

// claim takes a message that is at the server for one of ours.
func (v *sender) claim(k like, it move.Item) bool {
	list := v.have[k]
	if len(list) == 0 {
		return false
	}
	p := list[0]
	if len(list) == 1 {
		delete(v.have, k)
	} else {
		v.have[k] = list[1:]
	}
	lacks := flagSet{flags: it.Flags &^ p.flags}
	var words []string
	for _, w := range it.Keywords {
		if !slices.ContainsFunc(strings.Fields(p.keywords), func(h string) bool { return strings.EqualFold(h, w) }) {
			words = append(words, w)
		}
	}
	if lacks.keywords = joined(words); lacks != (flagSet{}) {
		if v.missing == nil {
			v.missing = map[flagSet][]string{}
		}
		v.missing[lacks] = append(v.missing[lacks], p.key)
	}
	return true
}

// Want chooses what is not at the server.
func (v *sender) Want(ctx context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i, it := range items {
		v.result.Messages++
		v.result.Bytes += it.Size
		if it.Broken != "" {
			if err := v.Skip(ctx, it, fault.New(fault.Corrupt, it.Broken)); err != nil {
				return nil, err
			}
			continue
		}
		if want[i] = !v.claim(likeOf(it.MessageID, it.Size, it.Date), it); !want[i] {
			v.done.Messages++
		}
	}
	v.tell()
	return want, nil
}

func (v *sender) tell() {
	if v.Progress != nil {
		v.done.Mailbox = v.result.Mailbox
		v.Progress(v.done)
	}
}

// Put takes a message along.
func (v *sender) Put(ctx context.Context, it move.Item, r io.Reader) error {
	l := &letterOut{item: it}
	if err := l.text.read(v.Spool, r); err != nil {
		return err
	}
	l.item.Keywords = slices.Clone(it.Keywords)
	l.like = l.asThere()
	if l.like != likeOf(it.MessageID, it.Size, it.Date) && v.claim(l.like, it) {
		l.text.close()
		v.done.Messages++
		return nil
	}
	v.waiting = append(v.waiting, l)
	if v.held += l.text.size; len(v.waiting) < sendMessages && v.held < sendBytes {
		return nil
	}
	return v.flush(ctx)
}

// Skip notes what cannot be had.
func (v *sender) Skip(_ context.Context, it move.Item, why error) error {
	v.done.Messages++
	if fault.Is(why, fault.NotFound) {
		v.result.Messages--
		v.result.Bytes -= it.Size
		return nil
	}
	v.refuse(it.UID, fault.Say(why))
	return nil
}

func (v *sender) refuse(uid mail.UID, why string) {
	v.result.Skipped++
	if len(v.report.Skipped) < MaxSkips {
		v.report.Skipped = append(v.report.Skipped, Skip{v.result.Mailbox, uid, why})
	}
}

func (v *sender) Gone(context.Context, []string) error { return nil }
func (v *sender) State(context.Context, []byte) error  { return nil }

// flush sends what waits. If the connection breaks nobody knows what has arrived: it is
// looked for before the rest is sent again.
func (v *sender) flush(ctx context.Context) error {
	defer func() {
		for _, l := range v.waiting {
			l.text.close()
		}
		v.waiting, v.held = nil, 0
	}()
	for try := 0; len(v.waiting) > 0; try++ {
		err := v.send(ctx, v.waiting)
		if err == nil {
			return nil
		}
		if p := imapc.ProblemOf(err); try == tries || ctx.Err() != nil || p != imapc.Lost && p != imapc.Timeout && p != imapc.Throttled && p != imapc.Refused {
			return err
		}
		if err := v.Wait(ctx, time.Second<<try); err != nil {
			return err
		}
		if err := v.arrived(ctx); err != nil {
			return err
		}
	}
	return nil
}

// arrived looks which of those that wait are at the server: there are more like them than were
// known.
func (v *sender) arrived(ctx context.Context) error {
	have, all := v.have, v.all
	err := v.look(ctx)
	now := v.all
	v.have, v.all = have, all
	if err != nil {
		return err
	}
	v.waiting = slices.DeleteFunc(v.waiting, func(l *letterOut) bool {
		if now[l.like] <= v.all[l.like] {
			return false
		}
		v.arrive(l)
		return true
	})
	return nil
}

func (v *sender) arrive(l *letterOut) {
	l.text.close()
	v.all[l.like]++
	v.result.Added++
	v.done.Messages++
	v.done.Bytes += l.item.Size
	v.tell()
}

// send appends messages. In one command all or none are taken: after a refusal each goes
// alone, to see which is meant.
func (v *sender) send(ctx context.Context, list []*letterOut) error {
	var out []imapc.Appending
	var ids []string
	for _, l := range list {
		out = append(out, imapc.Appending{Flags: l.item.Flags, Keywords: l.item.Keywords, Date: l.item.Date, Size: l.text.size + l.text.bare, Body: l.body()})
		ids = append(ids, "")
	}
	done, err := v.Server.Append(ctx, v.to.Source, out, ids)
	if err != nil {
		return err
	}
	for i, l := range list {
		var refused error
		if i < len(done) {
			refused = done[i].Err
		}
		switch {
		case refused == nil:
			if v.own == nil {
				v.own = map[like][]string{}
			}
			v.own[l.like] = append(v.own[l.like], done[i].Key)
			v.drop(l)
			v.arrive(l)
		case len(list) > 1:
			if err := v.send(ctx, []*letterOut{l}); err != nil {
				return err
			}
		default:
			v.drop(l)
			l.text.close()
			v.done.Messages++
			v.refuse(l.item.UID, "the server refuses it: "+fault.Say(refused))
		}
	}
	return nil
}

// drop takes a message off those that wait.
func (v *sender) drop(l *letterOut) {
	v.waiting = slices.DeleteFunc(slices.Clone(v.waiting), func(w *letterOut) bool { return w == l })
}

// asThere is what the message is like at a server. IMAP has lines in CRLF only, so what had
// others is there with another size; and an odd Message-ID is read as imapc reads it.
func (l *letterOut) asThere() like {
	return likeOf(l.text.messageID(), l.text.size+l.text.bare, l.item.Date)
}

// body reads the message with its lines in CRLF.
func (l *letterOut) body() io.Reader {
	if l.text.bare == 0 {
		return l.text.reader()
	}
	return &allCRLF{r: bufio.NewReaderSize(l.text.reader(), 32<<10)}
}

// allCRLF gives each LF that has no CR before it one.
type allCRLF struct {
	r    *bufio.Reader
	last byte
	have []byte
	err  error
}

func (c *allCRLF) Read(p []byte) (int, error) {
	for len(c.have) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		piece, err := c.r.ReadSlice('\n')
		if err != bufio.ErrBufferFull {
			c.err = err
		}
		n := len(piece)
		if n == 0 {
			continue
		}
		before := c.last
		if n > 1 {
			before = piece[n-2]
		}
		if c.last = piece[n-1]; c.last == '\n' && before != '\r' {
			c.have = append(bytes.Clone(piece[:n-1]), '\r', '\n')
		} else {
			c.have = bytes.Clone(piece)
		}
	}
	n := copy(p, c.have)
	c.have = c.have[n:]
	return n, nil
}

// flags sets flags that messages have here and not at the server.
func (v *sender) flags(ctx context.Context) error {
	for lacks, keys := range v.missing {
		for part := range slices.Chunk(keys, 500) {
			if err := v.Server.SetFlags(ctx, v.to.Source, part, imapc.AddFlags, lacks.flags, strings.Fields(lacks.keywords)); err != nil {
				return err
			}
			v.result.Reflagged += int64(len(part))
		}
	}
	v.missing = nil
	return nil
}

// untwin takes back what was sent twice. What a run that was killed had sent last may have
// become mail only after this run looked. Then there is one more than is known of a message
// that was sent now, and what was sent now goes.
func (v *sender) untwin(ctx context.Context) error {
	if len(v.own) == 0 {
		return nil
	}
	known := v.all
	if err := v.look(ctx); err != nil {
		return err
	}
	var twins []string
	for k, keys := range v.own {
		for _, key := range keys[:max(0, min(len(keys), v.all[k]-known[k]))] {
			if key != "" {
				twins = append(twins, key)
			}
		}
	}
	if len(twins) == 0 {
		return nil
	}
	return v.Server.Delete(ctx, v.to.Source, twins, false)
}

// prove compares what is at the server now with what the account has.
func (v *sender) prove(ctx context.Context, m move.Mailbox) error {
	if err := v.look(ctx); err != nil {
		return err
	}
	p := &serverProver{sender: v}
	if v.Proof {
		p.contents = map[move.Content]int{}
		if err := v.Server.Read(ctx, v.to, move.Reading{}, &hasher{into: p.contents}); err != nil {
			return err
		}
	}
	return v.Source.Read(ctx, m, move.Reading{}, p)
}

// hasher reads all that is at the server.
type hasher struct {
	looker
	into map[move.Content]int
}

func (h *hasher) Want(_ context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i := range want {
		want[i] = true
	}
	return want, nil
}

func (h *hasher) Put(_ context.Context, _ move.Item, r io.Reader) error {
	var s move.Summer
	if _, err := io.Copy(&s, r); err != nil {
		return err
	}
	h.into[s.Content()]++
	return nil
}

// serverProver looks for each message of the account at the server.
type serverProver struct {
	*sender
	contents map[move.Content]int // nil: bytes are not compared
}

func (p *serverProver) Want(_ context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items)) // those with bare LF have another size there, and other bytes
	for i, it := range items {
		if it.Broken != "" {
			continue
		}
		why := p.compare(likeOf(it.MessageID, it.Size, it.Date), it, it.Content)
		want[i] = why != ""
		if why == "" {
			p.result.Proven++
		}
	}
	return want, nil
}

// Put tries again with the message as IMAP carries it.
func (p *serverProver) Put(_ context.Context, it move.Item, r io.Reader) error {
	l := &letterOut{item: it}
	defer l.text.close()
	if err := l.text.read(p.Spool, r); err != nil {
		return err
	}
	var s move.Summer
	if _, err := io.Copy(&s, l.body()); err != nil {
		return err
	}
	why := p.compare(l.asThere(), it, s.Content())
	if why == "" {
		p.result.Proven++
		return nil
	}
	if p.refusedBefore(it.UID) {
		return nil
	}
	p.result.Differ++
	if len(p.report.Skipped) < MaxSkips {
		p.report.Skipped = append(p.report.Skipped, Skip{p.result.Mailbox, it.UID, why})
	}
	return nil
}

func (p *serverProver) refusedBefore(uid mail.UID) bool {
	return slices.ContainsFunc(p.report.Skipped, func(s Skip) bool { return s.Mailbox == p.result.Mailbox && s.UID == uid })
}

func (p *serverProver) Skip(context.Context, move.Item, error) error { return nil }

// compare says in what a message is not at the server as it is here.
func (p *serverProver) compare(k like, it move.Item, content move.Content) string {
	list := p.have[k]
	if len(list) == 0 {
		return "it is not at the server, or not of this size"
	}
	at := slices.IndexFunc(list, func(h present) bool { return h.date == it.Date.Unix() })
	if at < 0 {
		return "it has another date at the server"
	}
	if it.Flags&^list[at].flags != 0 {
		return "it has not all its flags at the server"
	}
	if p.contents != nil {
		if p.contents[content] == 0 {
			return "the server gives other bytes"
		}
		p.contents[content]--
	}
	p.have[k] = slices.Delete(slices.Clone(list), at, at+1)
	return ""
}
