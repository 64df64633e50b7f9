package mbox

import (
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// statusFields are those in which programs keep what is known about a message in an mbox
// file. Programs change them, so that they are not part of what a message is known by.
var statusFields = []string{"status", "x-status", "x-keywords", "x-uid", "x-imap", "x-imapbase",
	"x-mozilla-status", "x-mozilla-status2", "x-mozilla-keys", "content-length"}

// IsStatus tells whether a field, in lower case, is one of those.
func IsStatus(name string) bool { return slices.Contains(statusFields, name) }

// Status is what the fields tell.
type Status struct {
	Flags    mail.Flags
	Keywords []string
	UID      mail.UID
	Gone     bool // it is no message, or one that was deleted and waits to be taken out of the file
}

// StatusFields are those that ReadStatus asks a header about.
func StatusFields() []string { return append([]string{"subject"}, statusFields...) }

// ReadStatus reads the fields of Dovecot, UW, mutt (Status, X-Status, X-Keywords, X-UID) and
// of Thunderbird (X-Mozilla-*).
func ReadStatus(h *rfc822.Head) (s Status) {
	for _, c := range h.Get("status") {
		if c == 'R' {
			s.Flags |= mail.Seen
		}
	}
	for _, c := range h.Get("x-status") {
		switch c {
		case 'A':
			s.Flags |= mail.Answered
		case 'F':
			s.Flags |= mail.Flagged
		case 'T':
			s.Flags |= mail.Draft
		case 'D':
			s.Flags |= mail.Deleted
		}
	}
	s.Keywords = strings.Fields(h.Get("x-keywords"))
	if uid, err := strconv.ParseUint(h.Get("x-uid"), 10, 32); err == nil {
		s.UID = mail.UID(uid)
	}
	s.mozilla(h)
	// The first message of UW's files keeps what is known of the file.
	s.Gone = s.Gone || h.Has("x-imap") && strings.HasPrefix(h.Get("subject"), "DON'T DELETE THIS MESSAGE")
	s.Keywords = distinct(s.Keywords)
	return s
}

// Bits of X-Mozilla-Status.
const (
	mozRead      = 0x0001
	mozReplied   = 0x0002
	mozMarked    = 0x0004
	mozExpunged  = 0x0008
	mozForwarded = 0x1000
)

func (s *Status) mozilla(h *rfc822.Head) {
	bits, err := strconv.ParseUint(h.Get("x-mozilla-status"), 16, 32)
	if err != nil {
		return
	}
	for bit, flag := range map[uint64]mail.Flags{mozRead: mail.Seen, mozReplied: mail.Answered, mozMarked: mail.Flagged} {
		if bits&bit != 0 {
			s.Flags |= flag
		}
	}
	s.Gone = bits&mozExpunged != 0
	s.Keywords = append(s.Keywords, strings.Fields(h.Get("x-mozilla-keys"))...)
	if bits&mozForwarded != 0 {
		s.Keywords = append(s.Keywords, "$Forwarded")
	}
}

// distinct returns keywords without repetitions and without what cannot be one: at most
// 64, as no program sets more.
func distinct(words []string) (out []string) {
	for _, w := range words {
		w = mail.Keyword(w)
		if validKeyword(w) && len(out) < 64 && !slices.ContainsFunc(out, func(o string) bool { return strings.EqualFold(o, w) }) {
			out = append(out, w)
		}
	}
	return out
}

// validKeyword tells whether a word can be a keyword (RFC 9051, flag-keyword: an atom).
func validKeyword(w string) bool {
	for i := 0; i < len(w); i++ {
		if w[i] <= ' ' || w[i] >= 0x7f || strings.IndexByte(`(){%*"\]`, w[i]) >= 0 {
			return false
		}
	}
	return w != "" && len(w) <= 128
}

// uidValidity returns what the first message of a file says of the file: "X-IMAPbase:
// UIDVALIDITY last-UID keywords".
func uidValidity(header []byte) uint32 {
	h := rfc822.Glance(header, "x-imap", "x-imapbase")
	for _, name := range []string{"x-imapbase", "x-imap"} {
		first, _, _ := strings.Cut(h.Get(name), " ")
		if v, err := strconv.ParseUint(first, 10, 32); err == nil && v > 0 {
			return uint32(v)
		}
	}
	return 0
}
