// Package check finds out, once for each message from a stranger, whether it is what it
// says it is: SPF, DKIM, ARC, DMARC, the host's names, and lists of hosts. All are asked
// at the same time under one deadline.
//
// A Verdict holds facts. What is done about them depends on the policy of each recipient's
// domain: Decide says it. A check that could not run has the result temperror or
// none, and is never a reason to refuse a message.
//
// The package stores nothing, logs nothing and changes no message.
package check

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/martlet-mail/martlet/internal/check/arc"
	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/check/dnsbl"
	"github.com/martlet-mail/martlet/internal/check/spf"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Peer is the host that brings a message.
type Peer struct {
	Addr netip.Addr
	Helo string // the name it gave
}

// Message is the message as it came, before any field of ours stands in it.
type Message struct {
	Header []byte // top header with its empty line
	Cut    bool   // Header is only the first part of it
	// Body opens what follows the header. It may be called several times.
	Body func(ctx context.Context) (io.ReadCloser, error)
}

// Verdict is all that was found out about a message. It does not change once it is there.
type Verdict struct {
	Peer     Peer
	Envelope mail.Envelope
	Cut      bool     // only the first part of the header was looked at
	Authors  []string // domains of From, in A-labels; more than one: see DMARC.Problem

	SPF     spf.Result    // of MAIL FROM; of HELO if that is null
	SPFHelo spf.Result    // of HELO
	DKIM    []dkim.Result // none: no signature
	ARC     arc.Result
	DMARC   dmarc.Result
	Reverse Reverse
	Name    NameCheck
	Lists   []dnsbl.Hit // in the order of Options.Zones

	// Trusted says why a message that fails DMARC is believed all the same: who of
	// Options.Trusted has sent it on. The zero value: nobody.
	Trusted Forwarder
	// Relayed says by what signs the message was sent on by a list or a forwarder; ""
	// if it has none. Anybody can make such signs.
	Relayed string

	Took   time.Duration
	Faults []string // mistakes of ours in a check, for the log; that check found nothing
}

// Forwarder is a host that is trusted to send on what it has checked.
type Forwarder struct {
	Domain string
	ARC    bool // it, or one before it that is trusted, too, says that DMARC passed there
	Open   bool // it may be: whether it was could not be found out now
	Detail string
}

// Reverse is whether the names of the client's address lead back to it (RFC 8601,
// 2.7.3, iprev).
type Reverse struct {
	Status string // pass, fail, temperror or permerror
	Name   string // that does, or the first that does not
}

// NameCheck is what the name that the client gave is worth (RFC 5321, 4.1.4). It is a
// sign, and never alone a reason to refuse.
type NameCheck struct {
	Status string // pass: leads to the address; fail: does not, or is no name; temperror
	Reason string // why it does not pass
}

// Policy is what a domain here wants done with forged mail to it.
type Policy string

const (
	PolicyFollow Policy = "policy" // what the author's domain asks for
	PolicyReject Policy = "reject" // refuse all that the author's domain does not want delivered as usual, even from lists
	PolicyJunk   Policy = "junk"   // into Junk with it; refuse nothing
	PolicyMark   Policy = "mark"   // only tell it in the header
	PolicyReport Policy = "report" // only count it in reports
)

// Disposition is what is done with a message, from none to worst.
type Disposition uint8

const (
	None   Disposition = iota // deliver it
	Mark                      // deliver it; the header tells that something is wrong
	Junk                      // into Junk
	Reject                    // refuse it
)

// Decision is what a policy makes of a verdict.
type Decision struct {
	Disposition Disposition
	Code        int    // for Reject: of SMTP
	Enhanced    string // for Reject: RFC 3463, RFC 7372
	Text        string // what is wrong, in one sentence that the sender may read; "" for None

	// Override says why less is done than the author's domain asks for, in the words of
	// aggregate reports: "", local_policy, mailing_list, trusted_forwarder,
	// policy_test_mode or other (RFC 9990).
	Override string
	Comment  string // more of it, for people
}

// String returns none, mark, junk or reject.
func (d Disposition) String() string { return [...]string{"none", "mark", "junk", "reject"}[d] }
