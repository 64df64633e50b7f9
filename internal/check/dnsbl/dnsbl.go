// Package dnsbl asks lists in the name service what they say of an address: block
// lists of hosts that send what nobody wants, and lists of hosts that are known well.
//
// All lists are asked at the same time. One that has no answer in time, or answers that
// it will not say, has not listed anybody.
//
// RFC 5782 (DNSBL), RFC 8904 (DNSWL).
package dnsbl

import "net/netip"

// Action is what a listing leads to.
type Action string

const (
	Mark   Action = "mark"   // told in the header
	Junk   Action = "junk"   // into Junk
	Reject Action = "reject" // refused
	Accept Action = "accept" // a list of good hosts: no other list counts
)

// Zone is a list.
type Zone struct {
	Name   string         // domain of the list, as zen.example.net
	Action Action         // what a listing leads to
	Weight int            // added to the score of a message that is listed; negative for good hosts
	Codes  []netip.Prefix // answers that count; none: all of 127.0.0.0/8 that are no errors
}

// Hit is what one list says.
type Hit struct {
	Zone  Zone
	Codes []netip.Addr // answers that count; none if the address is not listed
	Text  string       // what the list says of it: a stranger's text
	Err   error        // no answer, or a code that says so; not listed then
}

// Listed tells whether the list has the address.
func (h Hit) Listed() bool { return len(h.Codes) > 0 }
