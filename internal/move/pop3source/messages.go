package pop3source

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc64"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

const (
	maxMessages = 1_000_000 // in a mailbox
	maxUIDL     = 1000      // bytes; RFC 1939, 7 has 70
	maxUIDLs    = 48 << 20  // bytes of all of a mailbox
	ahead       = 32        // commands that are sent before their answers, if the server allows it
)

// listing asks what there is: numbers, sizes, and names that stay.
func (c *client) listing() ([]entry, error) {
	if _, err := c.command("LIST"); err != nil {
		return nil, err
	}
	var list []entry
	err := c.lines(func(line string) error {
		n, rest, _ := strings.Cut(line, " ")
		rest, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
		number, err := strconv.Atoi(n)
		size, bad := strconv.ParseInt(rest, 10, 62)
		if err != nil || bad != nil || size < 0 || len(list) > 0 && number <= list[len(list)-1].number || number < 1 || len(list) >= maxMessages {
			return fault.New(fault.Invalid, c.opt.Host+" lists messages that cannot be")
		}
		list = append(list, entry{number: number, size: size})
		return nil
	})
	if err != nil || len(list) == 0 {
		return list, err
	}
	if err := c.uidl(list); err != nil {
		return nil, err
	}
	return list, c.name(list)
}

// uidl asks for names that stay (RFC 1939, 7). A server without them leaves them empty.
func (c *client) uidl(list []entry) error {
	if !c.has("UIDL") {
		return nil
	}
	if _, err := c.command("UIDL"); err != nil {
		return c.dead
	}
	i, sum := 0, 0
	return c.lines(func(line string) error {
		n, uidl, _ := strings.Cut(line, " ")
		number, err := strconv.Atoi(n)
		if uidl = strings.TrimSpace(uidl); err != nil || len(uidl) > maxUIDL {
			return fault.New(fault.Invalid, c.opt.Host+" lists names that cannot be")
		}
		if sum += len(uidl); sum > maxUIDLs {
			return fault.Newf(fault.TooLarge, "%s lists names of more than %d MB", c.opt.Host, maxUIDLs>>20)
		}
		for i < len(list) && list[i].number < number {
			i++
		}
		if i < len(list) && list[i].number == number {
			list[i].uidl = strings.Clone(uidl) // the line may be longer
		}
		return nil
	})
}

// name gives all messages their keys: the UIDL, or what stands for it. Two that are the
// same may have one UIDL (RFC 1939, 7); the second has another key.
func (c *client) name(list []entry) error {
	var keys rfc822.Keys
	seen := map[string]int{}
	twice := repeated(list)
	for i := range list {
		e := &list[i]
		if e.uidl == "" {
			digest, err := c.digest(e)
			if err != nil {
				return err
			}
			e.key = keys.Key(digest)
			continue
		}
		e.key = rfc822.KeyOfName(e.uidl)
		if twice[crc(e.uidl)] {
			if seen[e.uidl]++; seen[e.uidl] > 1 {
				e.key = rfc822.KeyOfName(fmt.Sprintf("%s again %d", e.uidl, seen[e.uidl]))
			}
		}
		e.uidl = "" // the key stands for it, and is short
	}
	return nil
}

// repeated returns the checksums of what may be the UIDL of several messages: few as a rule, so
// that a long list need not be remembered twice.
func repeated(list []entry) map[uint64]bool {
	sums := make([]uint64, 0, len(list))
	for i := range list {
		if list[i].uidl != "" {
			sums = append(sums, crc(list[i].uidl))
		}
	}
	slices.Sort(sums)
	twice := map[uint64]bool{}
	for i := 1; i < len(sums); i++ {
		if sums[i] == sums[i-1] {
			twice[sums[i]] = true
		}
	}
	return twice
}

var crc64Table = crc64.MakeTable(crc64.ECMA)

func crc(s string) uint64 { return crc64.Checksum([]byte(s), crc64Table) }

// digest is of a message's header and size, or of all of it where there is no TOP.
func (c *client) digest(e *entry) (d rfc822.Digest, err error) {
	line := fmt.Sprintf("TOP %d 0", e.number)
	if !c.has("TOP") {
		line = fmt.Sprintf("RETR %d", e.number)
	}
	if _, err := c.command(line); err != nil {
		if c.dead != nil || line[0] == 'R' {
			return d, err
		}
		delete(c.capas, "TOP")
		if _, err := c.command(fmt.Sprintf("RETR %d", e.number)); err != nil {
			return d, err
		}
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%d\n", e.size)
	if _, err := io.Copy(sum, struct{ io.Reader }{c.body(e)}); err != nil {
		return d, err
	}
	copy(d[:], sum.Sum(nil))
	return d, nil
}

// body is the text that follows, which may be longer than the server said, but not by much: sizes
// are counted in several ways.
func (c *client) body(e *entry) *text {
	return &text{c: c, left: min(2*e.size+1<<20, rfc822.MaxMessage)}
}

// ahead sends commands for messages before their answers are read, and reads these in turn.
// get names the messages by their places in block.
func (c *client) each(ctx context.Context, get []int, command func(i int) string, fn func(i int) error) error {
	window := 1
	if c.has("PIPELINING") {
		window = ahead
	}
	sent := 0
	for done, i := range get {
		if err := ctx.Err(); err != nil {
			return c.lose(err) // answers are on their way that nobody will read
		}
		if sent == done || sent-done <= window/2 {
			for ; sent < len(get) && sent < done+window; sent++ {
				if err := c.send(command(get[sent])); err != nil {
					return err
				}
			}
			if err := c.flush(); err != nil {
				return err
			}
		}
		if err := fn(i); err != nil {
			if sent > done+1 {
				_ = c.lose(err)
			}
			return err
		}
	}
	return nil
}

// tops asks for headers, for a plan.
func (c *client) tops(block []entry, items []move.Item) error {
	all := make([]int, len(block))
	for i := range all {
		all[i] = i
	}
	return c.each(c.ctx, all, func(i int) string { return fmt.Sprintf("TOP %d 0", block[i].number) }, func(i int) error {
		if _, err := c.reply(); err != nil {
			items[i].Broken = fault.Say(err)
			return c.dead
		}
		t := c.body(&block[i])
		header, err := rfc822.ReadHeader(t)
		if err != nil {
			return err
		}
		h := rfc822.Glance(header)
		items[i].MessageID, items[i].Broken = h.MessageID, h.Broken
		return t.drain()
	})
}

// retrieve hands over messages, and returns how many it did.
func (c *client) retrieve(ctx context.Context, block []entry, items []move.Item, get []int, v move.Visitor) (done int, err error) {
	c.ctx = ctx
	err = c.each(ctx, get, func(i int) string { return fmt.Sprintf("RETR %d", block[i].number) }, func(i int) error {
		if _, err := c.reply(); err != nil {
			if c.dead != nil {
				return err
			}
			done++
			return v.Skip(ctx, items[i], err)
		}
		t := c.body(&block[i])
		err := v.Put(ctx, items[i], t)
		if err == nil {
			err = t.drain()
		}
		if t.endless && err != nil {
			return errEnd
		}
		if err == nil {
			block[i].got = t.count
		}
		done++
		return err
	})
	return done, err
}

// remove marks messages, and returns which the server has marked, and their ties: one that it does not
// remove is no reason to keep the others.
func (c *client) remove(gone []entry, ties []*move.Tie) (marked []entry, of []*move.Tie, err error) {
	all := make([]int, len(gone))
	for i := range all {
		all[i] = i
	}
	err = c.each(c.ctx, all, func(i int) string { return fmt.Sprintf("DELE %d", gone[i].number) }, func(i int) error {
		if _, err := c.reply(); err != nil {
			return c.dead
		}
		marked, of = append(marked, gone[i]), append(of, ties[i])
		return nil
	})
	return marked, of, err
}
