package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Mailboxes of mix, in every account: one that is read, and one that is appended to.
const (
	mixBox = "bench-mix"
	mixOut = "bench-mix-out"
	mixAll = 1_000 // messages in the first
)

// turns are what sessions of mail programs do, and how many of a hundred commands are of each
// kind.
var turns = []struct {
	share int
	about string
	do    func(m *mixer) (int64, error)
}{
	{30, "NOOP", func(m *mixer) (int64, error) { return m.ask("NOOP") }},
	{20, "FETCH of UID, FLAGS and ENVELOPE of the newest 50", func(m *mixer) (int64, error) {
		return m.ask(fmt.Sprintf("FETCH %d:%d (UID FLAGS ENVELOPE)", mixAll-page+1, mixAll))
	}},
	{20, "FETCH of one whole message", func(m *mixer) (int64, error) { return m.ask(fmt.Sprintf("FETCH %d (BODY.PEEK[])", m.any())) }},
	{15, `STORE +FLAGS or -FLAGS (\Seen) of one message`, func(m *mixer) (int64, error) {
		return m.ask(fmt.Sprintf(`STORE %d %sFLAGS (\Seen)`, m.any(), []string{"+", "-"}[m.chance.IntN(2)]))
	}},
	{5, "SELECT", func(m *mixer) (int64, error) { return m.ask("SELECT " + mixBox) }},
	{5, "UID SEARCH UNSEEN", func(m *mixer) (int64, error) { return m.ask("UID SEARCH UNSEEN") }},
	{5, "APPEND of one message to another mailbox", func(m *mixer) (int64, error) {
		n, err := m.append(mixOut, m.letters, m.n, m.n+1, noFlags)
		return int64(n), err
	}},
}

// mixer is one session of mix.
type mixer struct {
	*imapConn
	letters *letters
	chance  *rand.Rand
	n       int
}

func (m *mixer) prepare(n int) { m.n = n }

func (m *mixer) any() int { return 1 + m.chance.IntN(mixAll) }

func (m *mixer) ask(command string) (int64, error) {
	before := m.read
	err := m.do(command, nil)
	return m.read - before, err
}

// deliver carries out one command, drawn by its share.
func (m *mixer) deliver() (int, string, error) {
	draw := m.chance.IntN(100)
	for _, t := range turns {
		if draw -= t.share; draw >= 0 {
			continue
		}
		n, err := t.do(m)
		var no refusal
		if errors.As(err, &no) {
			return 0, string(no), nil
		}
		return int(n), "", err
	}
	return 0, "", fault.New(fault.Internal, "the shares do not make a hundred")
}

// runMix times commands of several kinds, one after another in each session, over the
// accounts in turn. Each session draws the same commands on every server.
func runMix(ctx context.Context, r *runner) error {
	users := r.target.Users
	if len(users) == 0 {
		users = []Login{{r.target.User, r.target.Password}}
	}
	for _, u := range users {
		if err := r.mixable(ctx, u); err != nil {
			return err
		}
	}
	for _, n := range r.opt.Connections {
		l := newLetters(r.nextSeed("mix"), Small)
		res := Result{Scenario: "mix", Sizes: Small, TLS: r.target.TLS.IMAP}
		err := r.deliveries(ctx, res, n, func(i int) (worker, error) {
			c, err := dialIMAP(ctx, r.target.as(users[i%len(users)]))
			if err != nil {
				return nil, err
			}
			return &mixer{imapConn: c, letters: l, chance: rand.New(rand.NewPCG(uint64(n), uint64(i)))}, c.do("SELECT "+mixBox, nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// as returns the target with another login.
func (t Target) as(l Login) Target {
	t.User, t.Password = l.User, l.Password
	return t
}

// mixable fills the mailboxes of one account.
func (r *runner) mixable(ctx context.Context, u Login) error {
	c, err := dialIMAP(ctx, r.target.as(u))
	if err != nil {
		return err
	}
	defer c.Close()
	// It is there already from an earlier run, or from one beside this; others say why they refuse
	// when something is put into it.
	var no refusal
	if err := c.do("CREATE "+mixOut, nil); err != nil && !errors.As(err, &no) {
		return err
	}
	return r.seed(ctx, c, mixBox, mixAll)
}
