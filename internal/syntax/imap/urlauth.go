package imap

// ResetKey is the arguments of RESETKEY (RFC 4467, BASE.6.3.RESETKEY).
type ResetKey struct {
	All        bool // no mailbox was given: all keys go
	Mailbox    string
	Mechanisms []string
}

// ExpectResetKey reads the arguments of RESETKEY with the space before them.
func (d *Decoder) ExpectResetKey(out *ResetKey) bool {
	r := ResetKey{All: true}
	if d.SP() {
		r.All = false
		if !d.ExpectMailbox(&r.Mailbox) {
			return false
		}
		for d.SP() {
			var word string
			if !d.count() || !d.ExpectWord(&word, "a mechanism") {
				return false
			}
			r.Mechanisms = append(r.Mechanisms, word)
		}
	}
	*out = r
	return d.err == nil
}

// URLRump is a URL to be authorised and the mechanism to do it by.
type URLRump struct{ URL, Mechanism string }

// ExpectGenURLAuth reads the arguments of GENURLAUTH.
func (d *Decoder) ExpectGenURLAuth(out *[]URLRump) bool {
	var list []URLRump
	for {
		var r URLRump
		if !d.count() || !d.expectFilled(&r.URL, "a URL") || !d.ExpectSP() || !d.ExpectWord(&r.Mechanism, "a mechanism") {
			return false
		}
		list = append(list, r)
		if !d.SP() {
			*out = list
			return d.err == nil
		}
	}
}

// URLFetch is one URL of URLFETCH and what is wanted of it. Without any of the three,
// it is what RFC 4467 has, the bytes alone; else what RFC 5524 has.
type URLFetch struct {
	URL       string
	Body      bool
	Binary    bool
	Structure bool // BODYPARTSTRUCTURE
}

// Extended tells whether the answer is in the form of RFC 5524.
func (u *URLFetch) Extended() bool { return u.Body || u.Binary || u.Structure }

// ExpectURLFetch reads the arguments of URLFETCH.
func (d *Decoder) ExpectURLFetch(out *[]URLFetch) bool {
	var list []URLFetch
	for {
		var u URLFetch
		if !d.count() || !d.urlFetch(&u) {
			return false
		}
		list = append(list, u)
		if !d.SP() {
			*out = list
			return d.err == nil
		}
	}
}

func (d *Decoder) urlFetch(u *URLFetch) bool {
	if !d.Special('(') {
		return d.expectFilled(&u.URL, "a URL")
	}
	if !d.expectFilled(&u.URL, "a URL") {
		return false
	}
	for d.SP() {
		var word string
		if !d.ExpectWord(&word, "BODY, BINARY or BODYPARTSTRUCTURE") {
			return false
		}
		var want *bool
		switch word {
		case "BODY":
			want = &u.Body
		case "BINARY":
			want = &u.Binary
		case "BODYPARTSTRUCTURE":
			want = &u.Structure
		default:
			return d.Fail("URLFETCH cannot give " + clip(word))
		}
		if *want || u.Body && word == "BINARY" || u.Binary && word == "BODY" {
			return d.Fail("URLFETCH gives each item once, and one of BODY and BINARY")
		}
		*want = true
	}
	return d.ExpectSpecial(')')
}
