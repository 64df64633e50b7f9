// Package aggregate reads and writes aggregate reports of DMARC: an XML file in which a
// receiver tells a domain who has sent mail in its name, and what it thought of it.
//
// It writes the present form (RFC 9990) and reads that and the older one (RFC 7489, appendix C), with
// what real reporters make of it. What it reads is a stranger's: no entities, bounded depth,
// text and number of records. It opens no archives and sends nothing.
package aggregate

import (
	"net/netip"
	"time"
)

// Report is one report about one policy domain.
type Report struct {
	Organization string // who says that he reports
	Email        string
	Contact      string // more of it
	ID           string
	Begin, End   time.Time
	Error        string // what was wrong with the domain's record
	Generator    string

	Policy  Policy
	Records []Record
	More    int // records that were left out: there were too many
}

// Policy is what the domain had published.
type Policy struct {
	Domain      string // in A-labels
	Policy      string // p: none, quarantine or reject
	Subdomains  string // sp; "": not told
	NonExistent string // np
	DKIM, SPF   string // r or s; "": not told
	Failure     string // fo
	Testing     bool   // t=y
	Discovery   string // treewalk or psl; "": not told
}

// Record is what was found of some messages that are alike.
type Record struct {
	Source      netip.Addr
	Count       uint64
	Disposition string // none, pass, quarantine or reject
	DKIM, SPF   bool   // passed for an aligned domain
	Reasons     []Reason

	HeaderFrom   string
	EnvelopeFrom string
	EnvelopeTo   string

	DKIMResults []Result
	SPFResults  []Result
}

// Reason says why less was done than the policy asks for.
type Reason struct{ Type, Comment string }

// Result is what SPF or DKIM said by itself.
type Result struct {
	Domain   string
	Selector string // of DKIM
	Scope    string // of SPF: mfrom or helo; "": not told
	Result   string // RFC 8601, 2.7.1 and 2.7.2
	Human    string // more of it
}

// Pass tells whether DMARC passed.
func (r *Record) Pass() bool { return r.DKIM || r.SPF }
