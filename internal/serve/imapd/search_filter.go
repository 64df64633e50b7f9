package imapd

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Named filters (RFC 5466): search programs that clients keep in the annotations of
// the server.

const (
	filterDepth = 5    // filters named in filters; a loop ends here
	filterKeys  = 2000 // search keys that all filters of a search bring; 64 bytes weigh as one
)

// filterEntries are the annotations that a filter may lie in, the first one found
// counts (RFC 5466, 3.2).
var filterEntries = [...]string{"/private/filters/values/", "/shared/filters/values/"}

func usesFilter(k *imap.SearchKey) bool {
	return k.Op == imap.SearchFilter || slices.ContainsFunc(k.Keys, func(k imap.SearchKey) bool { return usesFilter(&k) })
}

// fillFilters puts the programs of filters into the places where they are named. What
// a filter says stands as if in parentheses.
func (s *session) fillFilters(args *imap.Search) error {
	if !usesFilter(&args.Key) {
		return nil
	}
	if c := args.Charset; c != "" && !strings.EqualFold(c, "UTF-8") && !strings.EqualFold(c, "US-ASCII") {
		return answered{"BAD", "BADCHARSET (UTF-8 US-ASCII)", fault.New(fault.Invalid, "filters are in UTF-8")}
	}
	room := filterKeys
	return s.acct.View(s.ctx, func(snap *store.Snapshot) error {
		room = filterKeys
		return s.fillIn(snap, &args.Key, 0, &room)
	})
}

func (s *session) fillIn(snap *store.Snapshot, k *imap.SearchKey, depth int, room *int) error {
	for i := range k.Keys {
		if err := s.fillIn(snap, &k.Keys[i], depth, room); err != nil {
			return err
		}
	}
	if k.Op != imap.SearchFilter {
		return nil
	}
	undefined := func(say string) error {
		return coded("UNDEFINED-FILTER "+k.Text, fault.New(fault.NotFound, say))
	}
	if depth == filterDepth {
		return undefined("filters name each other too often")
	}
	value, ok, err := s.filter(snap, k.Text)
	if err != nil {
		return err
	}
	if !ok {
		return undefined("there is no filter of this name")
	}
	program, err := imap.ParseFilter(value)
	if err != nil {
		return undefined("the filter is not a search program: " + fault.Say(err))
	}
	if *room -= program.CountKeys() + len(value)/64; *room < 0 {
		return fault.Newf(fault.Limited, "filters may bring %d search keys", filterKeys)
	}
	if err := s.fillIn(snap, &program, depth+1, room); err != nil {
		return err
	}
	*k = program
	return nil
}

// filter returns the value of a filter, whose name compares without case.
func (s *session) filter(snap *store.Snapshot, name string) (value string, ok bool, err error) {
	own := s.self()
	for _, at := range filterEntries {
		e, ok, err := s.entry(snap, &own, &store.Mailbox{}, at+strings.ToLower(name))
		if ok || err != nil {
			return string(e), ok, err
		}
	}
	return "", false, nil
}
