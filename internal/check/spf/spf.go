// Package spf tells whether a host may send mail in the name of a domain, by what the
// domain publishes: the Sender Policy Framework.
//
// It evaluates whole records strictly: a mistake anywhere in a record makes it invalid,
// also behind the term that matches. No record can make it ask more than RFC 7208,
// 4.6.4 allows. It keeps nothing and decides nothing.
//
// RFC 7208.
package spf

import (
	"net/netip"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Status is the outcome of a check, in the words of RFC 7208, 2.6.
type Status string

const (
	None      Status = "none"      // no domain to check, or it has no record
	Neutral   Status = "neutral"   // the domain says nothing of the host
	Pass      Status = "pass"      // the host may use the domain
	Fail      Status = "fail"      // the host may not
	SoftFail  Status = "softfail"  // the host probably may not
	TempError Status = "temperror" // the name service had no answer
	PermError Status = "permerror" // the record is invalid, or asks for too much
)

// Query says who sends, and in whose name.
type Query struct {
	Addr     netip.Addr   // the client's
	Helo     string       // the name it gave
	From     mail.Address // the reverse-path; the null address has the identity postmaster@Helo (RFC 7208, 2.4)
	Receiver string       // our name, for the macro r of explanations
	Now      time.Time    // for the macro t of explanations
}

// Result is what came of a check.
type Result struct {
	Status Status
	Domain string // that was checked, in A-labels; "" if none could be
	Local  string // local part of the identity
	IsHelo bool   // the identity is the name in HELO, be it for a null reverse-path

	Mechanism string // the term that decided, as it stands in the record; "" if none did
	Reason    string // why it could not be decided, in our words; "" otherwise

	// Explanation is what the domain wants the sender of a failing message to be told.
	// It is ASCII without control characters, and a stranger's text all the same.
	Explanation string
}
