package imapd

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// cache is what a client of QRESYNC keeps of a mailbox while it is away: exactly what
// RFC 7162, 6 lets it keep.
type cache struct {
	validity string
	modSeq   uint64
	upTo     uint32            // all messages up to this UID are in flags
	flags    map[uint32]string // by UID; "?" has not been fetched
}

func (c cache) clone() cache { c.flags = maps.Clone(c.flags); return c }

// uids returns the messages that are known without a gap, in order.
func (c cache) uids() []mail.UID {
	var out []mail.UID
	for uid := range c.flags {
		if uid <= c.upTo {
			out = append(out, mail.UID(uid))
		}
	}
	slices.Sort(out)
	return out
}

// syncClient is a client that has enabled QRESYNC and believes what it is told.
type syncClient struct {
	c       *client
	box     string // the mailbox it is about
	cache   cache
	order   []uint32 // UIDs by sequence number; 0 is not known yet
	highest uint64   // the most MODSEQ since the last tagged answer
	coded   uint64   // HIGHESTMODSEQ since then, which counts before all others
}

var (
	existsLine   = regexp.MustCompile(`^\* (\d+) EXISTS$`)
	vanishedLine = regexp.MustCompile(`^\* VANISHED( \(EARLIER\))? ([\d:,]+)$`)
	fetchLine    = regexp.MustCompile(`^\* (\d+) FETCH \((.*)\)$`)
	uidItem      = regexp.MustCompile(`\bUID (\d+)`)
	modItem      = regexp.MustCompile(`\bMODSEQ \((\d+)\)`)
	flagsItem    = regexp.MustCompile(`\bFLAGS \(([^)]*)\)`)
	highestCode  = regexp.MustCompile(`\[HIGHESTMODSEQ (\d+)\]`)
	validityCode = regexp.MustCompile(`\[UIDVALIDITY (\d+)\]`)
)

func number(s string) uint64 { n, _ := strconv.ParseUint(s, 10, 64); return n }

// do sends a command and takes in the answer. mayVanish says whether the command lets
// VANISHED without EARLIER be told.
func (k *syncClient) do(t testing.TB, command string, mayVanish bool) {
	t.Helper()
	lines, tagged := k.c.command(t, command)
	if !strings.HasPrefix(tagged, "zz OK") && !strings.HasPrefix(tagged, "zz NO [EXPUNGEISSUED]") {
		t.Fatalf("%s: %s", command, tagged)
	}
	for _, line := range append(lines, tagged) {
		if err := k.hear(line, mayVanish); err != nil {
			t.Fatalf("%s: %q: %v", command, line, err)
		}
	}
	switch { // RFC 7162, 6
	case k.coded > 0:
		k.cache.modSeq = k.coded
	case k.highest > k.cache.modSeq:
		k.cache.modSeq = k.highest
	}
	k.highest, k.coded = 0, 0
}

func (k *syncClient) hear(line string, mayVanish bool) error {
	if m := highestCode.FindStringSubmatch(line); m != nil {
		k.coded = number(m[1])
	}
	if m := existsLine.FindStringSubmatch(line); m != nil {
		n := int(number(m[1]))
		if n < len(k.order) {
			return fmt.Errorf("there were %d", len(k.order))
		}
		k.order = append(k.order, make([]uint32, n-len(k.order))...)
	}
	if m := vanishedLine.FindStringSubmatch(line); m != nil {
		return k.vanish(m[2], m[1] != "", mayVanish)
	}
	if strings.HasSuffix(line, " EXPUNGE") {
		return fmt.Errorf("not after QRESYNC was enabled")
	}
	if m := fetchLine.FindStringSubmatch(line); m != nil {
		return k.fetched(int(number(m[1])), m[2])
	}
	return nil
}

func (k *syncClient) vanish(set string, earlier, may bool) error {
	if !earlier && !may {
		return fmt.Errorf("not during this command")
	}
	for _, r := range strings.Split(set, ",") {
		from, to, two := strings.Cut(r, ":")
		if !two {
			to = from
		}
		for uid := uint32(number(from)); uid <= uint32(number(to)); uid++ {
			delete(k.cache.flags, uid)
			i := slices.Index(k.order, uid)
			switch {
			case earlier && i >= 0:
				return fmt.Errorf("EARLIER names UID %d, which is number %d", uid, i+1)
			case earlier:
			case i >= 0:
				k.order = slices.Delete(k.order, i, i+1)
			default: // one whose UID is not known: before the next higher one
				i = slices.IndexFunc(k.order, func(known uint32) bool { return known > uid })
				if i < 0 {
					i = len(k.order)
				}
				if i == 0 || k.order[i-1] != 0 {
					return fmt.Errorf("UID %d is not in the view", uid)
				}
				k.order = slices.Delete(k.order, i-1, i)
			}
		}
	}
	return nil
}

func (k *syncClient) fetched(n int, items string) error {
	uid := uidItem.FindStringSubmatch(items)
	if uid == nil {
		return fmt.Errorf("no UID")
	}
	if n < 1 || n > len(k.order) {
		return fmt.Errorf("there are %d", len(k.order))
	}
	id := uint32(number(uid[1]))
	if known := k.order[n-1]; known != 0 && known != id {
		return fmt.Errorf("number %d is UID %d", n, known)
	}
	k.order[n-1] = id
	if m := modItem.FindStringSubmatch(items); m != nil {
		k.highest = max(k.highest, number(m[1]))
	}
	if m := flagsItem.FindStringSubmatch(items); m != nil {
		k.cache.flags[id] = sorted(m[1])
	} else if _, known := k.cache.flags[id]; !known {
		k.cache.flags[id] = "?"
	}
	return nil
}

// open selects the mailbox with what the cache knows and asks for what is new to it, as RFC
// 7162, 6 describes. The cache is then that of a client that read everything.
func (k *syncClient) open(t testing.TB, more func([]mail.UID) string) {
	t.Helper()
	k.order = nil
	param := ""
	if k.cache.validity != "" {
		uids := k.cache.uids()
		// What is known beyond that is forgotten and asked for again.
		maps.DeleteFunc(k.cache.flags, func(uid uint32, _ string) bool { return uid > k.cache.upTo })
		param = fmt.Sprintf(" (QRESYNC (%s %d%s))", k.cache.validity, max(k.cache.modSeq, 1), more(uids))
	}
	k.cache.validity = ""
	// What SELECT tells of UIDVALIDITY is read from its lines.
	lines, tagged := k.c.command(t, "SELECT "+k.box+param)
	if !strings.HasPrefix(tagged, "zz OK [READ-WRITE]") {
		t.Fatal(tagged)
	}
	for _, line := range lines {
		if strings.Contains(line, "FETCH (") { // then it knows the number of each
			k.count()
		}
		if m := validityCode.FindStringSubmatch(line); m != nil {
			k.cache.validity = m[1]
		}
		if err := k.hear(line, false); err != nil {
			t.Fatalf("SELECT%s: %q: %v", param, line, err)
		}
	}
	k.count()
	k.cache.modSeq, k.highest, k.coded = k.coded, 0, 0
	k.all(t, fmt.Sprintf("UID FETCH %d:* (UID FLAGS)", k.cache.upTo+1))
}

// count gives the messages that are known the first numbers.
func (k *syncClient) count() {
	for i, uid := range k.cache.uids() {
		if i < len(k.order) {
			k.order[i] = uint32(uid)
		}
	}
}

// all carries out a FETCH of the flags of all messages that are new.
func (k *syncClient) all(t testing.TB, command string) {
	t.Helper()
	k.do(t, command, strings.HasPrefix(command, "UID"))
	for uid := range k.cache.flags {
		k.cache.upTo = max(k.cache.upTo, uid)
	}
}

// pairs is sequence match data for what a client knows: some of it, or none.
func pairs(rng *rand.Rand, uids []mail.UID) string {
	more := ""
	if len(uids) > 0 && rng.IntN(2) == 0 {
		more += " " + mail.SetOf(uids...).String()
	}
	if len(uids) == 0 || rng.IntN(2) == 0 {
		return more
	}
	var seqs, some mail.UIDSet
	for i, uid := range uids {
		if rng.IntN(3) == 0 {
			seqs.Add(mail.UID(i + 1))
			some.Add(uid)
		}
	}
	if len(seqs) == 0 {
		return more
	}
	return fmt.Sprintf("%s (%s %s)", more, seqs, some)
}

// disturb changes a mailbox from elsewhere.
func disturb(t testing.TB, w *world, rng *rand.Rand, name string) {
	pic := w.picture(name)
	box := pic.Mailbox().ID
	some := func() mail.UIDSet {
		var set mail.UIDSet
		for _, m := range pic.Messages(store.All()) {
			if rng.IntN(4) == 0 {
				set.Add(m.UID)
			}
		}
		return set
	}
	w.change(func(tx *store.Tx) error {
		var err error
		switch n := rng.IntN(10); {
		case n < 5:
			change := store.FlagChange{Op: store.FlagOp(rng.IntN(3)), Flags: mail.Flags(1 << rng.IntN(5))}
			if rng.IntN(3) == 0 {
				change.Keywords = []string{"label"}
			}
			_, err = tx.SetFlags(box, some(), change)
		case n < 7:
			_, err = tx.Expunge(box, some(), rng.IntN(2) == 0)
		case n < 8:
			archive, _ := tx.Mailbox("Archive")
			_, err = tx.Move(box, some(), archive.ID)
		default:
			archive, _ := tx.Mailbox("Archive")
			_, err = tx.Copy(archive.ID, mail.UIDSet{{From: 1, To: 3}}, box)
		}
		return err
	})
	if rng.IntN(20) == 0 { // the log is cut: what went before is known no more
		if _, err := w.st.Sweep(w.ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// agrees checks the cache against what is there.
func (k *syncClient) agrees(t testing.TB, w *world) {
	t.Helper()
	pic := w.picture(k.box)
	truth := map[uint32]string{}
	for _, m := range pic.Messages(store.All()) {
		truth[uint32(m.UID)] = sorted(string(pic.AppendFlags(nil, m)))
	}
	if !maps.Equal(truth, k.cache.flags) {
		t.Fatalf("the client at modseq %d has %v, there is %v", k.cache.modSeq, k.cache.flags, truth)
	}
	if len(k.order) != len(truth) {
		t.Fatalf("the client counts %d, there are %d", len(k.order), len(truth))
	}
}

// step lets the client do something to the mailbox.
func (k *syncClient) step(t testing.TB, rng *rand.Rand) {
	set := "1"
	if n := len(k.order); n == 0 {
		k.do(t, "NOOP", true)
		return
	} else if n > 1 {
		set = fmt.Sprintf("%d:%d", 1+rng.IntN(n), 1+rng.IntN(n))
	}
	op := []string{"", "+", "-"}[rng.IntN(3)]
	flag := modelFlags[rng.IntN(len(modelFlags))]
	switch rng.IntN(10) {
	case 0, 1:
		k.do(t, fmt.Sprintf("STORE %s %sFLAGS (%s)", set, op, flag), false)
	case 2:
		k.do(t, fmt.Sprintf("FETCH %s (UID MODSEQ)", set), false)
	case 3:
		k.all(t, "FETCH 1:* (UID FLAGS MODSEQ)")
	case 4:
		k.do(t, "UID SEARCH 1:* UNSEEN", false)
	case 5:
		k.do(t, "EXPUNGE", true)
	case 6:
		k.do(t, fmt.Sprintf("MOVE %s Archive", set), true)
	case 7:
		k.do(t, fmt.Sprintf("UID STORE 1:* +FLAGS (%s)", flag), true)
	case 8:
		k.do(t, fmt.Sprintf("UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE %d VANISHED)", max(k.cache.modSeq, 1)), true)
	default:
		k.do(t, "NOOP", true)
	}
}

// A client that comes back with QRESYNC, from any earlier moment and however its
// connection was lost, ends with exactly what a client knows that reads everything.
func TestResync(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.deliver("Archive", message(fmt.Sprint("a", i)), 0)
	}
	boxes := 0
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		boxes++
		box := fmt.Sprint("box", boxes)
		w.change(func(tx *store.Tx) error { _, err := tx.CreateMailbox(box, ""); return err })
		for i := range rng.IntN(6) {
			w.deliver(box, message(fmt.Sprint(i)), 0)
		}
		k := &syncClient{box: box, cache: cache{flags: map[uint32]string{}}}
		nothing := func([]mail.UID) string { return "" }
		var past []cache
		for range rapid.IntRange(2, 6).Draw(rt, "visits") {
			k.c = w.login("A", "")
			k.do(t, "ENABLE QRESYNC", true)
			if len(past) > 0 && rng.IntN(2) == 0 {
				k.cache = past[rng.IntN(len(past))].clone()
			}
			if rng.IntN(2) == 0 {
				k.open(t, nothing)
			} else {
				k.open(t, func(uids []mail.UID) string { return pairs(rng, uids) })
			}
			k.agrees(t, w)
			for range rng.IntN(12) {
				if rng.IntN(2) == 0 {
					disturb(t, w, rng, box)
				}
				k.step(t, rng)
				past = append(past, k.cache.clone())
			}
			for range rng.IntN(8) { // while the client is away
				disturb(t, w, rng, box)
			}
		}
	})
}
