package pop3source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
)

// Ties is what the account knows of messages that were brought. A move.Target that is a
// move.Prover has it.
//
// A UIDL names a message as long as it is there; when it is gone, a server may give the UIDL to
// another one (RFC 1939, 7). So a tie alone does not tell that the message which bears its
// name now is the one that was brought.
type Ties interface {
	Look(ctx context.Context, box move.Box, keys []string) ([]move.Looked, error)
	Change(ctx context.Context, box move.Box, list []move.Change) error
}

// Know gives a source its Options.Ties.
func (s *Source) Know(ties Ties) { s.opt.Ties = ties }

func (s *Source) box() move.Box { return move.Box{Source: s.ID(), Mailbox: "INBOX"} }

// mostDoubts is how many messages are read again, one after another, and are not found to be
// others. There are servers whose sizes are guesses: all of theirs differ, and are not read at
// each look, nor brought again if what they say of themselves differs each time.
const mostDoubts = 3

// doubt looks for names in a block that mean other messages now: their sizes are others than
// what was read. Their ties are set aside, so that they are told of as the new messages they are.
func (s *Source) doubt(ctx context.Context, block []entry) error {
	if s.opt.Ties == nil || s.doubts >= mostDoubts {
		return nil
	}
	keys := make([]string, len(block))
	for i := range block {
		keys[i] = block[i].key
	}
	known, err := s.opt.Ties.Look(ctx, s.box(), keys)
	if err != nil {
		return err
	}
	var list []int
	for i := range known {
		if t := known[i].Tie; t != nil && t.Size != block[i].size {
			list = append(list, i)
		}
	}
	slices.SortStableFunc(list, func(a, b int) int { return cmp.Compare(block[a].size, block[b].size) })
	var stale []*move.Tie
	for _, i := range list {
		if s.doubts >= mostDoubts {
			break
		}
		same, long, err := s.c.holds(&block[i], known[i].Tie)
		switch {
		case s.c.dead != nil:
			return err
		case err == nil && !same && long == block[i].size: // else the size was no reason to doubt
			stale = append(stale, known[i].Tie)
		default:
			s.doubts++
		}
	}
	return s.setAside(ctx, stale)
}

// setAside has ties say that their messages are at the server no more: others may bear their
// names. What was brought, and deleted here since, stays known to the proof.
func (s *Source) setAside(ctx context.Context, ties []*move.Tie) error {
	if len(ties) == 0 {
		return nil
	}
	list := make([]move.Change, len(ties))
	for i, t := range ties {
		list[i] = move.Change{Key: t.Key, NewKey: asideKey(t)}
	}
	return s.opt.Ties.Change(ctx, s.box(), list)
}

// asideKey is of one message brought under a name, and is no UIDL: it begins with a space.
func asideKey(t *move.Tie) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %x %s", t.Message, t.Content, t.Key))
	return " " + base64.RawURLEncoding.EncodeToString(sum[:])
}

// holds reads a message, and tells whether it is the one that was brought, and its size.
func (c *client) holds(e *entry, t *move.Tie) (same bool, size int64, err error) {
	if _, err := c.command(fmt.Sprintf("RETR %d", e.number)); err != nil {
		return false, 0, err
	}
	return c.compare(e, t)
}

func (c *client) compare(e *entry, t *move.Tie) (same bool, size int64, err error) {
	var sum move.Summer
	if _, err := io.Copy(&sum, struct{ io.Reader }{c.body(e)}); err != nil {
		return false, 0, err
	}
	return sum.Content() == t.Content, sum.Size(), nil
}

// mostReread is how many messages are read again for one Remove; the others' turn is at the next.
const mostReread = 5000

// Remove removes messages at the server that are in the account. A message is removed only if
// it is there now, and what the server has under its name is what was brought: it was read in
// this session, or is read for that. One that is another message by now stays, and comes
// with the next reading.
//
// Those that it counts are gone there when it returns nil; if it returns an error, none is
// (RFC 1939, 6), or it says that this is not known. Keys that are not there any more are passed over.
func (s *Source) Remove(ctx context.Context, _ string, keys []string) (removed int, err error) {
	if s.opt.Ties == nil {
		return 0, fault.New(fault.Unsupported, "it is not known what of this mailbox is here")
	}
	if err := s.open(ctx); err != nil {
		return 0, err
	}
	wanted := make(map[string]bool, len(keys))
	for _, k := range keys {
		wanted[k] = true
	}
	var there []entry
	for _, e := range s.list {
		if wanted[e.key] {
			there = append(there, e)
		}
	}
	gone, ties, err := s.sure(ctx, there)
	if err == nil && len(gone) > 0 {
		gone, ties, err = s.c.remove(gone, ties)
	}
	if err != nil || len(gone) == 0 {
		if err != nil && s.c != nil {
			_ = s.c.conn.Close() // without QUIT nothing is removed
			s.c = nil
		}
		return 0, err
	}
	err = s.c.end()
	s.c = nil // numbers of a new session are others
	if err != nil {
		return 0, err
	}
	return len(gone), s.setAside(ctx, ties)
}

// sure returns which messages are those that are in the account, and their ties.
func (s *Source) sure(ctx context.Context, there []entry) (gone []entry, ties []*move.Tie, err error) {
	left := mostReread
	for block := range slices.Chunk(there, move.MaxItems) {
		keys := make([]string, len(block))
		for i := range block {
			keys[i] = block[i].key
		}
		known, err := s.opt.Ties.Look(ctx, s.box(), keys)
		if err != nil {
			return nil, nil, err
		}
		same := make([]bool, len(block))
		var read []int
		for i, k := range known {
			if k.Tie == nil || k.Now == nil { // not here, or not any more
				continue
			}
			if same[i] = block[i].got > 0 && block[i].got == k.Tie.Size; !same[i] {
				read = append(read, i)
			}
		}
		read = read[:min(len(read), left)]
		left -= len(read)
		stale, err := s.reread(ctx, block, known, read, same)
		if err == nil {
			err = s.setAside(ctx, stale)
		}
		if err != nil {
			return nil, nil, err
		}
		for i, k := range known {
			if same[i] {
				gone, ties = append(gone, block[i]), append(ties, k.Tie)
			}
		}
	}
	return gone, ties, nil
}

// reread reads messages, and notes which are the same as were brought; the ties of others are
// stale. One that the server does not give stays there.
func (s *Source) reread(ctx context.Context, block []entry, known []move.Looked, read []int, same []bool) (stale []*move.Tie, err error) {
	s.c.ctx = ctx
	err = s.c.each(ctx, read, func(i int) string { return fmt.Sprintf("RETR %d", block[i].number) }, func(i int) error {
		if _, err := s.c.reply(); err != nil {
			return s.c.dead
		}
		is, _, err := s.c.compare(&block[i], known[i].Tie)
		if err != nil {
			return err
		}
		if same[i] = is; !is {
			stale = append(stale, known[i].Tie)
		}
		return nil
	})
	return stale, err
}
