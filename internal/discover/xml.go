package discover

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// node is an element of a small XML document.
type node struct {
	name string // without the namespace
	attr map[string]string
	text string // of the element itself, trimmed
	kids []*node

	said []byte // text, until the element ends
}

const (
	maxDepth = 12
	maxNodes = 2000
)

// parseXML reads a document without a DTD: there is then no entity but the five that XML has,
// and none that could grow or name a file.
func parseXML(body []byte) (*node, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	d.CharsetReader = charset
	var open []*node
	var root *node
	nodes := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, errors.New("has a document type definition, which is not read")
		case xml.StartElement:
			if nodes++; nodes > maxNodes || len(open) >= maxDepth || len(open) == 0 && root != nil {
				return nil, errors.New("has too many elements, or too deep ones")
			}
			n := &node{name: t.Name.Local}
			for _, a := range t.Attr {
				if n.attr == nil {
					n.attr = map[string]string{}
				}
				n.attr[a.Name.Local] = a.Value
			}
			if len(open) == 0 {
				root = n
			} else {
				up := open[len(open)-1]
				up.kids = append(up.kids, n)
			}
			open = append(open, n)
		case xml.EndElement:
			n := open[len(open)-1]
			n.text, n.said = string(bytes.TrimSpace(n.said)), nil
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				n := open[len(open)-1]
				n.said = append(n.said, t...)
			}
		}
	}
	if root == nil {
		return nil, errors.New("is not XML")
	}
	return root, nil
}

// charset reads the one-byte encodings that old files are in.
func charset(name string, in io.Reader) (io.Reader, error) {
	switch strings.ToLower(name) {
	case "utf-8", "utf8", "us-ascii", "ascii":
		return in, nil
	case "iso-8859-1", "latin1", "windows-1252", "iso-8859-15":
		raw, err := io.ReadAll(io.LimitReader(in, maxDocument))
		var b strings.Builder
		for _, c := range raw {
			b.WriteRune(rune(c))
		}
		return strings.NewReader(b.String()), err
	}
	return nil, fmt.Errorf("is in the encoding %q, which is not read", clip(name))
}

// child returns the first element of the name, in any case, or nil.
func (n *node) child(name string) *node {
	if n != nil {
		for _, k := range n.kids {
			if strings.EqualFold(k.name, name) {
				return k
			}
		}
	}
	return nil
}

// all returns all elements of the name.
func (n *node) all(name string) (found []*node) {
	if n != nil {
		for _, k := range n.kids {
			if strings.EqualFold(k.name, name) {
				found = append(found, k)
			}
		}
	}
	return found
}

// value is the text of the first element of the name, "" if there is none.
func (n *node) value(name string) string {
	if k := n.child(name); k != nil {
		return k.text
	}
	return ""
}
