package imapd

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// choices makes random choices of what a fuzzer says, a byte for each, and then of others.
type choices struct {
	input []byte
	rest  *rand.PCG
}

func (c *choices) Uint64() uint64 {
	if len(c.input) == 0 {
		return c.rest.Uint64()
	}
	b := uint64(c.input[0])
	c.input = c.input[1:]
	return b * 0x0101_0101_0101_0101 // in the high bits and in the low ones
}

func chosenBy(input []byte) *rand.Rand {
	return rand.New(&choices{input, rand.NewPCG(uint64(len(input)), 1)})
}

// FuzzStory is TestSessionsAgree with two clients, and choices that the fuzzer makes.
func FuzzStory(f *testing.F) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 2))
		input := make([]byte, 150)
		for i := range input {
			input[i] = byte(rng.Uint32())
		}
		f.Add(seed%2 == 1, input)
	}
	f.Fuzz(func(t *testing.T, keep bool, input []byte) {
		s := &story{t: t, w: newWorld(t), rng: chosenBy(input), file: filepath.Join(t.TempDir(), "story.txt")}
		if keep {
			s.w = keepingWorld(t)
			s.script.WriteString("\nkeep\n")
		}
		s.play(2, min(len(input)/4, 60))
		if lost := s.lost(); keep && lost != 0 {
			t.Fatalf("%d messages are neither in a mailbox nor kept:\n%s", lost, &s.script)
		}
	})
}

// searchProgram reads the arguments of a SEARCH, of one line.
func searchProgram(text string) (key *imap.SearchKey, ok bool) {
	if len(text) > 300 || strings.ContainsAny(text, "\r\n{") {
		return nil, false
	}
	d := imap.NewDecoder(bufio.NewReader(strings.NewReader("CHARSET UTF-8 "+text+"\r\n")), imap.DefaultLimits)
	var s imap.Search
	return &s.Key, d.ExpectSearch(&s) && d.ExpectCRLF()
}

// FuzzFind: whatever is searched for, notes and keys find what a look at every message
// finds, and orders and threads that are kept are those that are made anew.
func FuzzFind(f *testing.F) {
	w := newWorld(f)
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 30 {
		w.deliver("INBOX", letter(n), mail.Flags(n%32))
		w.deliver("INBOX", someMail(rng, n), 0)
	}
	for _, s := range []string{
		`TEXT "café"`, `OR SUBJECT "ärger" NOT BODY "inner"`, `FROM p3@example HEADER Subject ""`, `NOT (TO b@ UNSEEN 2:9)`, `FUZZY TEXT "no. 3"`,
		`SENTSINCE 1-Jan-2020 LARGER 300 UID 5:*`, `OR (BODY x TEXT y) (CC z BCC "")`, `HEADER X-Subject "caf"`, `X-GM-RAW "has:attachment filename:x in:inbox"`, `KEYWORD $x MODSEQ 3`, `YOUNGER 9 SAVEDSINCE 1-Mar-2026`,
	} {
		if _, ok := searchProgram(s); !ok {
			f.Fatalf("%s is not a search", s)
		}
		f.Add(s, []byte(s))
	}
	s := &session{srv: w.imap, ctx: w.ctx, acct: w.alice}
	v := &view{owner: owner{acct: w.alice}, pic: w.picture("INBOX")}
	arranging := sessionOn(w, v.pic)
	w.imap.arranged.least = 1
	f.Fuzz(func(t *testing.T, program string, choices []byte) {
		w.t = t
		compareArranged(t, arranging, chosenBy(choices))
		key, ok := searchProgram(program)
		if !ok {
			return
		}
		find := func(full bool) (set string, err error) {
			q := &search{s: s, v: v, among: store.All()}
			if q.root, err = q.compile(key); err != nil {
				return "", err
			}
			if full {
				q.sifts, q.keyed = false, q.dated // dates are among the keys alone
			}
			err = q.run()
			found := mail.SetOf(q.found...)
			return found.String(), err
		}
		want, err := find(true)
		for range 2 { // the second time with what the first has noted
			if got, err2 := find(false); (err == nil) != (err2 == nil) || got != want {
				t.Fatalf("%q finds %s (%v), and looking at every message %s (%v)", program, got, err2, want, err)
			}
		}
		if err == nil {
			found, err := s.find(v, key)
			if err != nil || found.set.String() != want && !bytes.Contains(bytes.ToUpper([]byte(program)), []byte("FUZZY")) {
				t.Fatalf("%q answers %s, %v, not %s", program, found.set, err, want)
			}
		}
	})
}
