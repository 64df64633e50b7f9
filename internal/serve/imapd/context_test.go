package imapd

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// keptResult is a result as a client keeps it that believes what it is told.
type keptResult struct {
	tag, command string // the search that asks for all of it anew
	uid, sorted  bool
	list         []int
}

// resultClient is a client that keeps results up to date.
type resultClient struct {
	t       *testing.T
	c       *client
	exists  int
	results map[string]*keptResult
	tags    int
}

var (
	aboutResult = regexp.MustCompile(`^\* ESEARCH \(TAG "(\w+)"\)( UID)?(.*)$`)
	resultMoves = regexp.MustCompile(` (REMOVEFROM|ADDTO) \(([^)]*)\)`)
)

// expanded returns the members of a set in the order written.
func expanded(set string) (list []int) {
	for part := range strings.SplitSeq(set, ",") {
		from, to, isRange := strings.Cut(part, ":")
		a, _ := strconv.Atoi(from)
		b := a
		if isRange {
			b, _ = strconv.Atoi(to)
		}
		for n := a; n <= b; n++ {
			list = append(list, n)
		}
	}
	return list
}

func (r *keptResult) move(what string, at int, set []int, exists int) error {
	for _, n := range set {
		if !r.uid && n > exists {
			return fmt.Errorf("number %d of %d", n, exists)
		}
		i := slices.Index(r.list, n)
		switch {
		case what == "ADDTO" && i >= 0, what == "REMOVEFROM" && i < 0:
			return fmt.Errorf("%s %d: the result is %v", what, n, r.list)
		case what == "REMOVEFROM" && at > 0 && i != at-1:
			return fmt.Errorf("%d is not at place %d of %v", n, at, r.list)
		case what == "REMOVEFROM":
			r.list = slices.Delete(r.list, i, i+1)
		case at == 0:
			i, _ := slices.BinarySearch(r.list, n)
			r.list = slices.Insert(r.list, i, n)
		case at > len(r.list)+1:
			return fmt.Errorf("place %d of %d", at, len(r.list))
		default:
			r.list = slices.Insert(r.list, at-1, n)
			at++
		}
	}
	return nil
}

// hear takes in what the client is told.
func (m *resultClient) hear(lines []string) {
	m.t.Helper()
	for _, line := range lines {
		if err := m.take(line); err != nil {
			m.t.Fatalf("%s: %v\nin %s", line, err, strings.Join(lines, "\n"))
		}
	}
}

func (m *resultClient) take(line string) error {
	if t := told.FindStringSubmatch(line); t != nil {
		n, _ := strconv.Atoi(t[1])
		switch t[2] {
		case "EXISTS":
			m.exists = n
		case "EXPUNGE":
			m.exists--
			for _, r := range m.results {
				if r.uid {
					continue
				}
				for i := range r.list {
					if r.list[i] == n {
						return fmt.Errorf("it is in the result of %s", r.command)
					}
					if r.list[i] > n {
						r.list[i]--
					}
				}
			}
		case "FETCH":
			if n > m.exists {
				return fmt.Errorf("there are %d", m.exists)
			}
		}
		return nil
	}
	t := aboutResult.FindStringSubmatch(line)
	if t == nil || m.results[t[1]] == nil {
		return nil
	}
	r := m.results[t[1]]
	if (t[2] != "") != r.uid {
		return fmt.Errorf("UID or not is not the question")
	}
	for _, move := range resultMoves.FindAllStringSubmatch(t[3], -1) {
		words := strings.Fields(move[2])
		for i := 0; i+1 < len(words); i += 2 {
			at, _ := strconv.Atoi(words[i])
			if !r.sorted != (at == 0) {
				return fmt.Errorf("place %d", at)
			}
			if err := r.move(move[1], at, expanded(words[i+1]), m.exists); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *resultClient) do(command string) []string {
	m.t.Helper()
	m.tags++
	tag := fmt.Sprint("t", m.tags)
	m.c.send(m.t, tag+" "+command+"\r\n")
	var lines []string
	for {
		line, ok := m.c.read(m.t)
		if !ok {
			m.t.Fatalf("%s: the connection ended", command)
		}
		if strings.HasPrefix(line, tag+" ") {
			if !strings.HasPrefix(line, tag+" OK") {
				m.t.Fatalf("%s: %s", command, line)
			}
			return lines
		}
		lines = append(lines, line)
	}
}

// all returns the answer of a search.
func (m *resultClient) all(lines []string) (list []int) {
	for _, line := range lines {
		if t := aboutResult.FindStringSubmatch(line); t != nil && t[1] == fmt.Sprint("t", m.tags) {
			if _, set, ok := strings.Cut(t[3], " ALL "); ok {
				return expanded(set)
			}
		}
	}
	return nil
}

// keep begins to keep the result of a search.
func (m *resultClient) keep(rng *rand.Rand) {
	keys := []string{
		"UNSEEN", "FLAGGED", "KEYWORD $one", "ALL", "OR SEEN SUBJECT s1", "NOT DELETED", "SUBJECT s2", "TEXT s3 UNSEEN",
		"UID 3:*", "SMALLER 260", "NOT UID *", "OR FLAGGED (SUBJECT s UNKEYWORD $one)", "UNDELETED YOUNGER 100",
	}
	key := keys[rng.IntN(len(keys))]
	r := &keptResult{uid: rng.IntN(2) == 0, sorted: rng.IntN(2) == 0}
	verb, by := "SEARCH", ""
	if r.sorted {
		orders := []string{"SUBJECT", "REVERSE SUBJECT", "ARRIVAL", "REVERSE ARRIVAL", "SIZE", "REVERSE DATE SIZE", "FROM REVERSE SUBJECT"}
		verb, by = "SORT", "("+orders[rng.IntN(len(orders))]+") UTF-8 "
	}
	if r.uid {
		verb = "UID " + verb
	}
	fetch := ""
	if rng.IntN(3) == 0 {
		fetch = " (UID FLAGS)"
	}
	lines := m.do(verb + " RETURN (ALL UPDATE" + fetch + ") " + by + key)
	r.tag, r.command, r.list = fmt.Sprint("t", m.tags), verb+" RETURN (ALL) "+by+key, m.all(lines)
	answer := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, `* ESEARCH (TAG "`+r.tag+`"`) })
	m.hear(lines[:answer])
	defer m.hear(lines[answer:])
	if len(m.results) < maxUpdates {
		m.results[r.tag] = r
	} else if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "[NOUPDATE") }) {
		m.t.Fatalf("%d searches are kept, and one more: %q", len(m.results), lines)
	}
}

// check asks for all results anew.
func (m *resultClient) check() {
	m.t.Helper()
	for _, r := range m.results {
		lines := m.do(r.command)
		if want := m.all(lines); !slices.Equal(want, r.list) {
			m.t.Fatalf("%s %s: the client has %v, it is %v", r.tag, r.command, r.list, want)
		}
		m.hear(lines)
	}
}

// Whatever happens in a mailbox, a client that has its results kept up to date ends with
// what a new search says.
func TestContexts(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 5))
			w := newWorld(t)
			for i := range 6 {
				w.deliver("INBOX", message(fmt.Sprint("s", i)), 0)
			}
			m := &resultClient{t: t, c: w.login("A", ""), results: map[string]*keptResult{}}
			switch rng.IntN(3) {
			case 0:
				m.do("NOTIFY SET (selected (MessageNew (FLAGS) MessageExpunge FlagChange))")
			case 1:
				m.do("NOTIFY SET (selected-delayed (MessageNew MessageExpunge))")
			}
			m.hear(m.do("SELECT INBOX"))
			for range 5 {
				m.keep(rng)
			}
			for range 60 {
				for range 1 + rng.IntN(3) {
					stir(w, rng)
				}
				if commands := []string{"UID FETCH 1:* UID", "SEARCH ALL", "IDLE\r\nDONE"}; rng.IntN(3) > 0 {
					m.hear(m.do(commands[rng.IntN(len(commands))]))
				}
				if m.exists > 0 && rng.IntN(4) == 0 {
					m.hear(m.do(fmt.Sprintf("UID STORE %d:* %sFLAGS (%s)", 1+rng.IntN(9), []string{"+", "-"}[rng.IntN(2)], `\Flagged $one`)))
				}
				switch rng.IntN(12) {
				case 0:
					m.keep(rng)
				case 1:
					for tag := range m.results {
						lines := m.do(`CANCELUPDATE "` + tag + `"`)
						delete(m.results, tag)
						m.hear(lines)
						break
					}
				}
				m.hear(m.do("NOOP"))
				m.check()
			}
		})
	}
}

// stir changes INBOX as another session would.
func stir(w *world, rng *rand.Rand) {
	pic := w.picture("INBOX")
	one := mail.SetOf(pic.UID(1 + rng.IntN(max(pic.Len(), 1))))
	box := pic.Mailbox().ID
	some := one
	if len(one) > 0 && rng.IntN(3) == 0 {
		some = pic.Existing(mail.UIDSet{{From: one[0].From, To: one[0].From + mail.UID(rng.IntN(9))}})
	}
	w.change(func(tx *store.Tx) (err error) {
		switch n := rng.IntN(10); {
		case n < 4 || pic.Len() == 0:
			p, err := w.st.Receive(w.ctx, strings.NewReader(fmt.Sprintf("Subject: s%d\r\nFrom: f%d@example.org\r\n\r\n%s", rng.IntN(5), rng.IntN(3), strings.Repeat("x", rng.IntN(300)))))
			if err == nil {
				_, err = tx.Append(box, store.NewMessage{Parcel: p, Flags: []mail.Flags{0, mail.Seen}[rng.IntN(2)]})
			}
			return err
		case n < 7:
			flags := []mail.Flags{mail.Seen, mail.Flagged, mail.Deleted}[rng.IntN(3)]
			_, err = tx.SetFlags(box, some, store.FlagChange{Op: []store.FlagOp{store.AddFlags, store.RemoveFlags}[rng.IntN(2)], Flags: flags, Keywords: []string{"$one"}[:rng.IntN(2)]})
		default:
			_, err = tx.Expunge(box, some, false)
		}
		return err
	})
}
