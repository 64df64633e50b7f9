package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// side is an account elsewhere, in memory: what an IMAP server with CONDSTORE, VANISHED and
// UIDPLUS does.
type side struct {
	sync.Mutex
	boxes    []*sideBox
	mod      uint64
	noPlus   bool // the server does not say where messages went
	coarse   bool // it asks which are known, instead of naming what is gone
	copies   bool // it cannot move: it copies and then removes
	marks    bool // it removes nothing, as others are marked, too
	delay    time.Duration
	wait     chan struct{} // closed and made anew for each news
	canWait  bool
	waiting  int
	opened   int
	closed   int
	calls    int
	failAt   int // fail this call; 0: none
	changes  int // made by Mirror
	readings int
	hidden   string // this message is not listed, though it is there
	broken   string // this message cannot be read
	between  func() // called between the mailboxes that are read
}

type sideBox struct {
	name     string
	role     mail.Role
	validity uint32
	next     mail.UID
	list     []*sideMessage
	gone     map[mail.UID]uint64
}

type sideMessage struct {
	uid   mail.UID
	mod   uint64
	flags mail.Flags
	words []string
	text  string
	date  time.Time
}

func newSide(names ...string) *side {
	s := &side{wait: make(chan struct{}), mod: 1}
	for i, n := range names {
		role := map[string]mail.Role{"INBOX": mail.RoleInbox, "Trash": mail.RoleTrash, "Sent": mail.RoleSent, "Archive": mail.RoleArchive}[n]
		s.boxes = append(s.boxes, &sideBox{name: n, role: role, validity: uint32(10 + i), next: 1, gone: map[mail.UID]uint64{}})
	}
	return s
}

func (s *side) box(name string) *sideBox {
	for _, b := range s.boxes {
		if b.name == name {
			return b
		}
	}
	return nil
}

func (b *sideBox) key(uid mail.UID) string { return fmt.Sprint(b.validity, ".", uid) }

func (b *sideBox) find(key string) int {
	return slices.IndexFunc(b.list, func(m *sideMessage) bool { return b.key(m.uid) == key })
}

// left is how many connections are open, or waited on.
func (s *side) left() int {
	s.Lock()
	defer s.Unlock()
	return s.opened - s.closed + s.waiting
}

func (s *side) count(n *int) int {
	s.Lock()
	defer s.Unlock()
	return *n
}

func (s *side) news() {
	close(s.wait)
	s.wait = make(chan struct{})
}

// add puts a message into a mailbox.
func (s *side) add(box, text string, flags mail.Flags) {
	s.Lock()
	defer s.Unlock()
	s.insert(s.box(box), &sideMessage{flags: flags, text: text, date: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)})
	s.news()
}

func (s *side) insert(b *sideBox, m *sideMessage) mail.UID {
	s.mod++
	m.uid, m.mod = b.next, s.mod
	b.next++
	b.list = append(b.list, m)
	return m.uid
}

// twice tells whether a message is there twice: a move was cut short between copy and removal.
func (s *side) twice(m *sideMessage) bool {
	n := 0
	for _, b := range s.boxes {
		for _, other := range b.list {
			if other.text == m.text && !other.flags.Has(mail.Deleted) {
				n++
			}
		}
	}
	return n > 1
}

func (s *side) remove(b *sideBox, i int) *sideMessage {
	m := b.list[i]
	s.mod++
	b.gone[m.uid] = s.mod
	b.list = slices.Delete(b.list, i, i+1)
	return m
}

// transfer moves as a client there does.
func (s *side) transfer(from *sideBox, i int, to *sideBox) mail.UID {
	m := *s.remove(from, i)
	return s.insert(to, &m)
}

// renew gives a mailbox another UIDVALIDITY, as a server does that lost its index.
func (s *side) renew(name string) {
	b := s.box(name)
	b.validity += 1000
	b.next = 1
	for _, m := range b.list {
		s.mod++
		m.uid, m.mod = b.next, s.mod
		b.next++
	}
	clear(b.gone)
}

// texts returns what lies where, sorted.
func (s *side) content() map[string][]string {
	s.Lock()
	defer s.Unlock()
	out := map[string][]string{}
	for _, b := range s.boxes {
		for _, m := range b.list {
			if m.flags.Has(mail.Deleted) {
				continue
			}
			out[b.name] = append(out[b.name], line(m.text, m.flags, m.words))
		}
		sort.Strings(out[b.name])
	}
	return out
}

func line(text string, flags mail.Flags, words []string) string {
	w := slices.Clone(words)
	sort.Strings(w)
	return fmt.Sprint(strings.TrimSpace(text[strings.LastIndex(text, "\r\n\r\n")+4:]), " ", flags&carried, " ", w)
}

// open is a connection to the side.
func (s *side) open() *session {
	s.Lock()
	defer s.Unlock()
	s.opened++
	return &session{side: s}
}

var errBroken = errors.New("the line broke")

// call counts, and fails where the test wants it. It needs the lock.
func (s *side) call(ctx context.Context) error {
	s.calls++
	if s.calls == s.failAt {
		return errBroken
	}
	return ctx.Err()
}

type session struct {
	*side
	ended bool
}

func (c *session) ID() string { return "imap:carol@imap.example.net:993" }

func (c *session) Close() error {
	c.Lock()
	defer c.Unlock()
	if !c.ended {
		c.ended = true
		c.closed++
	}
	return nil
}

func (c *session) Mailboxes(ctx context.Context) (list []move.Mailbox, err error) {
	c.Lock()
	defer c.Unlock()
	for _, b := range c.boxes {
		list = append(list, move.Mailbox{Name: b.name, Source: b.name, Role: b.role, Messages: int64(len(b.list)), Bytes: -1})
	}
	return list, c.call(ctx)
}

type sideState struct {
	Validity uint32
	Mod      uint64
}

func (c *session) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	c.Lock()
	c.readings++
	b := c.box(m.Source)
	var since sideState
	_ = json.Unmarshal(how.Since, &since)
	if since.Validity != b.validity {
		since.Mod = 0
	}
	var items []move.Item
	var texts []string
	var gone []string
	hides := false
	for _, msg := range b.list {
		if b.key(msg.uid) == c.hidden {
			hides = true
			continue
		}
		if msg.mod > since.Mod {
			items = append(items, move.Item{Key: b.key(msg.uid), Size: int64(len(msg.text)), Flags: msg.flags, Keywords: slices.Clone(msg.words), Date: msg.date})
			texts = append(texts, msg.text)
		}
	}
	if since.Mod > 0 {
		for uid, mod := range b.gone {
			if mod > since.Mod {
				gone = append(gone, b.key(uid))
			}
		}
	}
	state, _ := json.Marshal(sideState{b.validity, c.mod})
	err := c.call(ctx)
	between := c.between
	c.Unlock()
	if err != nil {
		return err
	}
	if between != nil {
		defer between()
	}
	if d, ok := v.(move.Doubter); ok && hides {
		d.Doubt()
	}
	if len(gone) > 0 {
		tell := func() error { return v.Gone(ctx, gone) }
		if sifter, ok := v.(move.Sifter); ok && c.coarse {
			tell = func() error {
				return sifter.GoneOf(ctx, func(key string) bool { return slices.Contains(gone, key) })
			}
		}
		if err := tell(); err != nil {
			return err
		}
	}
	for from := 0; from < len(items); from += 7 {
		to := min(from+7, len(items))
		want, err := v.Want(ctx, items[from:to])
		if err != nil {
			return err
		}
		for i, yes := range want {
			if !yes {
				continue
			}
			c.Lock()
			err := c.call(ctx)
			c.Unlock()
			if err == nil && items[from+i].Key == c.broken {
				err = v.Skip(ctx, items[from+i], errBroken)
			} else if err == nil {
				err = v.Put(ctx, items[from+i], strings.NewReader(texts[from+i]))
			}
			if err != nil {
				return err
			}
		}
	}
	return v.State(ctx, state)
}

func (c *session) SetFlags(ctx context.Context, m move.Mailbox, list []FlagChange) error {
	c.Lock()
	defer c.Unlock()
	b := c.box(m.Source)
	for _, ch := range list {
		if err := c.call(ctx); err != nil {
			return err
		}
		i := b.find(ch.Key)
		if i < 0 {
			continue
		}
		msg := b.list[i]
		flags, words := msg.flags|ch.Add, slices.Clone(msg.words)
		flags &^= ch.Remove
		for _, w := range ch.AddWords {
			if !hasWord(words, w) {
				words = append(words, w)
			}
		}
		words = slices.DeleteFunc(words, func(w string) bool { return hasWord(ch.RemoveWords, w) })
		if flags != msg.flags || !sameWords(words, msg.words) {
			c.mod++
			c.changes++
			msg.flags, msg.words, msg.mod = flags, words, c.mod
		}
	}
	return nil
}

func (c *session) Move(ctx context.Context, from move.Mailbox, keys []string, to move.Mailbox) ([]Moved, error) {
	c.Lock()
	defer c.Unlock()
	return c.moveAll(ctx, c.box(from.Source), keys, c.box(to.Source))
}

// moveAll moves in one command, or copies in one and removes in another. It needs the lock.
func (c *session) moveAll(ctx context.Context, a *sideBox, keys []string, b *sideBox) ([]Moved, error) {
	out := make([]Moved, len(keys))
	for i, k := range keys {
		if err := c.call(ctx); err != nil {
			return out, err
		}
		at := a.find(k)
		if at < 0 {
			continue
		}
		c.changes++
		var uid mail.UID
		if c.copies {
			m := *a.list[at]
			uid = c.insert(b, &m)
			if err := c.call(ctx); err != nil { // the answer is lost
				return out, err
			}
			out[i].Left = !c.take(a, k)
		} else {
			uid = c.transfer(a, at, b)
		}
		if out[i].Done = true; !c.noPlus {
			out[i].Key = b.key(uid)
		}
	}
	return out, nil
}

// take removes a message, or marks it. It needs the lock.
func (c *session) take(a *sideBox, key string) (gone bool) {
	at := a.find(key)
	switch {
	case at < 0:
	case c.marks:
		c.mod++
		a.list[at].flags |= mail.Deleted
		a.list[at].mod = c.mod
		return false
	default:
		c.remove(a, at)
	}
	return true
}

func (c *session) Remove(ctx context.Context, from move.Mailbox, keys []string) ([]Moved, error) {
	c.Lock()
	defer c.Unlock()
	out := make([]Moved, len(keys))
	for i, k := range keys {
		if err := c.call(ctx); err != nil {
			return nil, err
		}
		c.changes++
		out[i] = Moved{Done: true, Left: !c.take(c.box(from.Source), k)}
	}
	return out, nil
}

func (c *session) Trash(ctx context.Context, from move.Mailbox, keys []string) ([]Moved, error) {
	if from.Role == mail.RoleTrash {
		return c.Remove(ctx, from, keys)
	}
	c.Lock()
	defer c.Unlock()
	out, err := c.moveAll(ctx, c.box(from.Source), keys, c.box("Trash"))
	for i := range out {
		out[i].Done = out[i].Done || err == nil
	}
	return out, err
}

func (c *session) CanWait() bool { return c.canWait }

func (c *session) LoginDelay() time.Duration { return c.delay }

func (c *session) Wait(ctx context.Context, _ move.Mailbox) error {
	c.Lock()
	news := c.wait
	c.waiting++
	c.Unlock()
	defer func() { c.Lock(); c.waiting--; c.Unlock() }()
	select {
	case <-ctx.Done():
	case <-news:
	}
	return nil
}
