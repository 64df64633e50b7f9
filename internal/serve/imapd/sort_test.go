package imapd

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// sortable is a message whose keys the test knows.
type sortable struct {
	uid               int
	subject, base     string
	from, display, cc string // in folded form but for case
	written           string // the From field
	date              time.Time
	size              int
}

var (
	sortSubjects = [][2]string{
		{"Apple", "APPLE"}, {"Re: apple", "APPLE"}, {"[x] Fwd: banana (fwd)", "BANANA"}, {"banana", "BANANA"}, {"", ""},
		{"_under", "_UNDER"}, {"=?utf-8?q?=C3=84pfel?=", "A\u0308PFEL"}, {"Zebra", "ZEBRA"}, {"applesauce and more", "APPLESAUCE AND MORE"},
	}
	sortAuthors = [][3]string{ // as written, addr-mailbox, what is displayed
		{"zoe@x.test", "ZOE", "ZOE@X.TEST"}, {"Adam <zoe@x.test>", "ZOE", "ADAM"}, {"=?utf-8?q?=C3=96zil?= <b@x>", "B", "O\u0308ZIL"},
		{"", "", ""}, {"Team: b@x, c@x;", "TEAM", "TEAM"}, {"alone", "ALONE", "ALONE"},
	}
)

func someSortable(r *rand.Rand, uid int) (sortable, []byte) {
	s, a := sortSubjects[r.IntN(len(sortSubjects))], sortAuthors[r.IntN(len(sortAuthors))]
	m := sortable{uid: uid, subject: s[0], base: s[1], written: a[0], from: a[1], display: a[2], cc: strings.Repeat("C", r.IntN(3))}
	zone := time.FixedZone("", 3600*(r.IntN(24)-12))
	m.date = start.Add(time.Duration(r.IntN(6)-3) * time.Hour).In(zone)
	var b strings.Builder
	fmt.Fprintf(&b, "Subject: %s\r\nFrom: %s\r\n", m.subject, m.written)
	if m.cc != "" {
		fmt.Fprintf(&b, "Cc: %s@x\r\n", strings.ToLower(m.cc))
	}
	if r.IntN(5) > 0 {
		fmt.Fprintf(&b, "Date: %s\r\n", m.date.Format(time.RFC1123Z))
	} else {
		m.date = start // when it comes in
	}
	fmt.Fprintf(&b, "\r\n%s\r\n", strings.Repeat("x", r.IntN(4)))
	m.size = b.Len()
	return m, []byte(b.String())
}

var sortOrders = map[string]func(a, b *sortable) int{
	"ARRIVAL":     func(a, b *sortable) int { return 0 }, // all come in at once
	"CC":          func(a, b *sortable) int { return cmp.Compare(a.cc, b.cc) },
	"DATE":        func(a, b *sortable) int { return a.date.Compare(b.date) },
	"FROM":        func(a, b *sortable) int { return cmp.Compare(a.from, b.from) },
	"SIZE":        func(a, b *sortable) int { return cmp.Compare(a.size, b.size) },
	"SUBJECT":     func(a, b *sortable) int { return cmp.Compare(a.base, b.base) },
	"TO":          func(a, b *sortable) int { return 0 },
	"DISPLAYFROM": func(a, b *sortable) int { return cmp.Compare(a.display, b.display) },
}

func TestSortAgainstModel(t *testing.T) {
	w := newWorld(t)
	r := rand.New(rand.NewPCG(3, 4))
	var all []sortable
	for uid := 1; uid <= 150; uid++ {
		m, text := someSortable(r, uid)
		all = append(all, m)
		w.deliver("INBOX", text, 0)
	}
	var names []string
	for name := range sortOrders {
		names = append(names, name)
	}
	slices.Sort(names)
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	for range 150 {
		var program []string
		var by []func(a, b *sortable) int
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names[:1+r.IntN(4)] {
			order := sortOrders[name]
			if r.IntN(2) == 0 {
				name = "REVERSE " + name
				forward := order
				order = func(a, b *sortable) int { return forward(b, a) }
			}
			program, by = append(program, name), append(by, order)
		}
		want := slices.Clone(all)
		slices.SortStableFunc(want, func(a, b sortable) int {
			for _, order := range by {
				if d := order(&a, &b); d != 0 {
					return d
				}
			}
			return 0
		})
		line := "* SORT"
		for _, m := range want {
			line += fmt.Sprint(" ", m.uid)
		}
		command := "UID SORT (" + strings.Join(program, " ") + ") UTF-8 ALL"
		if lines, tagged := c.command(t, command); len(lines) != 1 || lines[0] != line {
			t.Fatalf("%s:\n%q %s\nwant\n%s", command, lines, tagged, line)
		}
	}
}
