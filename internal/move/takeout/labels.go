package takeout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// kind is what a label means.
type kind uint8

const (
	inbox kind = iota
	sent
	drafts
	spam
	trash
	starred
	important
	unread
	opened
	archived
	chat
	own // a label of the person's own
)

var kindNames = [...]string{"inbox", "sent", "drafts", "spam", "trash", "starred", "important", "unread", "opened", "archived", "chat", "label"}

// Labels says what is made of labels.
type Labels uint8

const (
	Mailboxes Labels = iota // each is a mailbox: a message with several lies in several
	Keywords                // each is a keyword; Gmail's own ones are mailboxes and flags all the same
)

// ParseLabels reads the value of --labels.
func ParseLabels(s string) (Labels, error) {
	switch s {
	case "mailboxes":
		return Mailboxes, nil
	case "keywords":
		return Keywords, nil
	}
	return 0, fmt.Errorf("--labels is mailboxes or keywords, not %q", s)
}

// sense is what a word is in a language.
type sense struct {
	language string
	kind     kind
}

// lexicon has the words of all languages, folded. It is made once, and never changes.
var lexicon = sync.OnceValue(func() map[string][]sense {
	all := map[string][]sense{}
	for _, language := range slices.Sorted(maps.Keys(words)) {
		for k, names := range words[language] {
			for _, name := range strings.Split(names, ";") {
				f := folded(name)
				all[f] = append(all[f], sense{language, kind(k)})
			}
		}
	}
	return all
})

// tabNames has the words for categories, folded.
var tabNames = sync.OnceValue(func() map[string]string {
	all := map[string]string{}
	for tab, names := range tabs {
		for _, name := range names {
			all[folded(name)] = tab
		}
	}
	return all
})

func folded(s string) string {
	s = strings.TrimSpace(s)
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return cases.Fold().String(norm.NFKC.String(s))
		}
	}
	return strings.ToLower(s)
}

// dictionary knows labels by their folded names.
type dictionary struct {
	languages []string // none: all
	more      map[string]kind
}

// newDictionary returns one of some languages, or of all, with names added by hand:
// "Luettu=opened".
func newDictionary(languages []string, more map[string]string) (*dictionary, error) {
	d := &dictionary{languages: languages, more: map[string]kind{}}
	for name, what := range more {
		k := slices.Index(kindNames[:], what)
		if k < 0 {
			return nil, fmt.Errorf("label %q: %q is to be one of %s", name, what, strings.Join(kindNames[:], ", "))
		}
		d.more[folded(name)] = kind(k)
	}
	return d, nil
}

// kind returns what a label of Gmail's own is.
func (d *dictionary) kind(label string) (kind, bool) {
	f := folded(label)
	if k, ok := d.more[f]; ok {
		return k, true
	}
	for _, s := range lexicon()[f] {
		if len(d.languages) == 0 || slices.Contains(d.languages, s.language) {
			return s.kind, true
		}
	}
	return own, false
}

// languagesOf returns the languages in which most of some labels are Gmail's own: those of
// one Takeout are all in one language, and a word of another may well be a person's label.
// Empty if none is known.
func languagesOf(values []string) (best []string) {
	count := map[string]int{}
	for _, v := range values {
		for _, label := range splitLabels(v) {
			for _, s := range lexicon()[folded(label)] {
				count[s.language]++
			}
		}
	}
	most := 0
	for language, n := range count {
		if n > most {
			most, best = n, nil
		}
		if n == most {
			best = append(best, language)
		}
	}
	slices.Sort(best)
	return best
}

// meaning returns what a label means. name is that of an own label, tab that of a category.
func (d *dictionary) meaning(label string) (k kind, tab string) {
	plain := strings.TrimPrefix(label, `\`)
	if k, ok := d.kind(plain); ok {
		return k, ""
	}
	for _, word := range categories {
		rest, ok := strings.CutPrefix(plain, word)
		if !ok || rest == "" || !strings.ContainsAny(rest[:1], " :\"") && rest[0] < 0x80 {
			continue
		}
		name := strings.Trim(rest, " :：\u00a0\"'«»„“”‘’「」『』")
		if tab, ok := tabNames()[folded(name)]; ok {
			return own, tab
		}
		if strings.ContainsAny(rest, ":：\"«„“‘「『") { // as Google writes them, and nobody else
			return own, word + " " + name
		}
	}
	return own, ""
}

// splitLabels reads the value of X-Gmail-Labels: a list parted by commas, encoded as a
// whole (RFC 2047), in which a label that has a comma is quoted. At most 200 are taken.
func splitLabels(value string) (labels []string) {
	text := mime.DecodeWords(value)
	quoted, from := false, 0
	add := func(s string) {
		s = strings.TrimSpace(s)
		if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
			s = strings.ReplaceAll(s[1:len(s)-1], `""`, `"`)
		}
		s = strings.TrimSpace(strings.ReplaceAll(s, `\"`, `"`))
		if s != "" && len(labels) < 200 && !slices.Contains(labels, s) {
			labels = append(labels, s)
		}
	}
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quoted:
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ',' && !quoted:
			add(text[from:i])
			from = i + 1
		}
	}
	add(text[from:])
	return labels
}

// sorted is what the labels of a message say.
type sorted struct {
	has    [own]bool
	labels []string // own ones
	tabs   []string
}

func (d *dictionary) sort(labels []string) (s sorted) {
	for _, label := range labels {
		switch k, tab := d.meaning(label); {
		case tab != "":
			s.tabs = append(s.tabs, tab)
		case k == own:
			s.labels = append(s.labels, label)
		default:
			s.has[k] = true
		}
	}
	return s
}

// apply writes to an item what its labels say. Where it lies comes first: what is in Trash
// or Spam is nowhere else; what was archived is in its labels' mailboxes, and in Archive only
// if it has none.
func (d *dictionary) apply(value string, found bool, how Labels, item *move.Item) {
	s := d.sort(splitLabels(value))
	if !s.has[unread] && found {
		item.Flags |= mail.Seen
	}
	if s.has[starred] {
		item.Flags |= mail.Flagged
	}
	if s.has[drafts] {
		item.Flags |= mail.Draft
	}
	if s.has[important] {
		item.Keywords = append(item.Keywords, "$Important")
	}
	for _, tab := range s.tabs {
		if tab != "Personal" {
			item.Keywords = append(item.Keywords, tab)
		}
	}
	var places []string
	for _, p := range []struct {
		k    kind
		name string
	}{{trash, "Trash"}, {spam, "Junk"}, {drafts, "Drafts"}, {inbox, "INBOX"}, {sent, "Sent"}} {
		if s.has[p.k] {
			places = append(places, p.name)
		}
	}
	if s.has[trash] || s.has[spam] {
		places = places[:1]
	}
	if how == Keywords {
		item.Keywords = append(item.Keywords, s.labels...)
	} else if !s.has[trash] && !s.has[spam] {
		places = append(places, s.labels...)
	} else {
		item.Keywords = append(item.Keywords, s.labels...) // the label is not lost with the place
	}
	if s.has[chat] && len(places) == 0 {
		places = append(places, "Chat")
	}
	if len(places) == 0 {
		places = append(places, "Archive")
	}
	item.Places = places
}
