// Package dmarc tells whether the domain that a message says it is from stands behind
// it, and what that domain wants done if not.
//
// It takes what SPF and DKIM have found out, finds the policy of the author's domain by
// a walk up the tree of names, and compares. What becomes of a message is not decided
// here: package check does.
//
// RFC 9989.
package dmarc

// Policy is what a domain wants done with a message that fails (RFC 9989, 4.7, p).
type Policy string

const (
	PolicyNone       Policy = "none"
	PolicyQuarantine Policy = "quarantine"
	PolicyReject     Policy = "reject"
)

// Status is the outcome of an evaluation (RFC 9989, 9.2).
type Status string

const (
	None      Status = "none"      // the domain has no policy record
	Pass      Status = "pass"      // an aligned domain stands behind the message
	Fail      Status = "fail"      // none does, or nobody knows who the author is
	TempError Status = "temperror" // the name service had no answer
	PermError Status = "permerror" // the policy record is of no use
)

// PSD says what a domain is in the tree of names (RFC 9989, 4.7, psd).
type PSD byte

const (
	PSDUnknown PSD = iota // psd=u, or not said
	PSDYes                // a public suffix
	PSDNo                 // no public suffix, and an organizational domain
)

// Record is a policy record (RFC 9989, 4.7). Tags that are absent or malformed have
// their defaults.
type Record struct {
	Text string // as published

	Policy      Policy // p; "" if it is absent or invalid
	Subdomains  Policy // sp; "" if absent
	NonExistent Policy // np; "" if absent
	StrictDKIM  bool   // adkim=s
	StrictSPF   bool   // aspf=s
	PSD         PSD
	Testing     bool     // t=y
	Failure     []string // fo: of "0", "1", "d" and "s"; never empty

	RUA []string // where aggregate reports go: URIs, without the obsolete size
	RUF []string // where failure reports go

	Malformed bool // p is absent or invalid, or sp or np are invalid (RFC 9989, 4.10.1)
}

// Identifier is a domain whose use SPF or DKIM has looked at.
type Identifier struct {
	Domain string // SPF: of MAIL FROM; DKIM: d=. In any form
	Pass   bool
	Temp   bool // it could not be decided now
}

// Message is what is known of a message.
type Message struct {
	Authors []string // domains of its From field, in any form
	Problem string   // what is wrong with its From field, in our words; "" if nothing is
	SPF     Identifier
	DKIM    []Identifier
	Open    string // why there may be more that stands behind it, in our words; "" if all is known
}

// Result is what came of an evaluation.
type Result struct {
	Status       Status
	Author       string // Author Domain in A-labels; of several, the one that decided
	Organization string // its Organizational Domain
	Domain       string // where the record was found: the Policy Domain; "" if nowhere
	Record       Record
	NonExistent  bool   // the Author Domain does not exist, so that np applies
	Policy       Policy // what the record has for this author; "" without a record
	Applied      Policy // what it wants done: Policy, or one step below it if it is tested (t=y). Both may be known where Status is TempError

	SPF  bool     // SPF passed for an aligned domain
	DKIM []string // aligned domains whose signatures passed
	// Unclaimed: no domain in From has a policy, and all of them were asked. So nobody has
	// said that a message like this must not be.
	Unclaimed bool
	Problem   string // what is wrong with From
	Reason    string // why it is as it is, in one sentence
}
