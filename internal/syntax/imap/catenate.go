package imap

// CatPart is one part of a message that APPEND puts together (RFC 4469, 5): bytes of
// the client's or the URL of bytes that the server has.
type CatPart struct {
	Data *Literal // nil if it is a URL
	URL  string
	UTF8 bool // UTF8 (~{...}), RFC 6855, 4
}

// NextCatPart reads the next part of an AppendMessage that is to be put together; last
// is the one before, nil at first, whose Data has been read to its end. It returns
// false without an error after the last part and the parenthesis that closes the list.
func (d *Decoder) NextCatPart(last *CatPart, out *CatPart) bool {
	if last != nil {
		if last.UTF8 && !d.ExpectSpecial(')') {
			return false
		}
		if d.Special(')') || !d.SP() && !d.expected("a space or ')'") {
			return false
		}
	}
	var word string
	if !d.count() || !d.ExpectWord(&word, "TEXT or URL") || !d.ExpectSP() {
		return false
	}
	var p CatPart
	switch word {
	case "URL":
		if !d.expectFilled(&p.URL, "a URL") {
			return false
		}
	case "TEXT":
		if !d.ExpectLiteral(&p.Data, true) {
			return false
		}
	case "UTF8":
		p.UTF8 = true
		if !d.ExpectSpecial('(') || !d.ExpectLiteral(&p.Data, true) {
			return false
		}
	default:
		return d.Fail("CATENATE knows no part of the form " + clip(word))
	}
	*out = p
	return true
}
