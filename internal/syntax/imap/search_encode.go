package imap

import "strings"

// AppendText appends the arguments as a client writes them, in UTF-8.
func (s Search) AppendText(b []byte) []byte {
	return s.Key.AppendText(append(s.appendReturn(b), "CHARSET UTF-8 "...))
}

// appendReturn appends RETURN and a space after it, if it was given.
func (s *Search) appendReturn(b []byte) []byte {
	if !s.Extended {
		return b
	}
	b = append(b, "RETURN ("...)
	for i, name := range returnNames {
		if s.Return&(1<<i) == 0 {
			continue
		}
		if b[len(b)-1] != '(' {
			b = append(b, ' ')
		}
		b = append(b, name...)
		if 1<<i == ReturnPartial {
			b = s.Partial.AppendText(append(b, ' '))
		}
		if 1<<i == ReturnUpdate && len(s.Update) > 0 {
			b = appendItems(append(b, ' '), s.Update)
		}
	}
	return append(b, ") "...)
}

// dayNames are the keys that take a date.
var dayNames = map[SearchOp]string{
	SearchBefore: "BEFORE ", SearchOn: "ON ", SearchSince: "SINCE ",
	SearchSentBefore: "SENTBEFORE ", SearchSentOn: "SENTON ", SearchSentSince: "SENTSINCE ",
	SearchSavedBefore: "SAVEDBEFORE ", SearchSavedOn: "SAVEDON ", SearchSavedSince: "SAVEDSINCE ",
}

// textNames are the keys that take an atom, numberNames those that take a number.
var (
	textNames = map[SearchOp]string{
		SearchKeyword: "KEYWORD ", SearchEmailID: "EMAILID ", SearchThreadID: "THREADID ", SearchFilter: "FILTER ",
	}
	numberNames = map[SearchOp]string{
		SearchUIDAfter: "UIDAFTER ", SearchUIDBefore: "UIDBEFORE ", SearchLarger: "LARGER ", SearchSmaller: "SMALLER ",
		SearchModSeq: "MODSEQ ", SearchOlder: "OLDER ", SearchYounger: "YOUNGER ",
	}
)

// AppendText appends the key as a client writes it, with literals where the text
// needs them.
func (k SearchKey) AppendText(b []byte) []byte {
	str := func(s string) { b = AppendString(b, s, true, true) }
	if name, ok := textNames[k.Op]; ok {
		return append(append(b, name...), k.Text...)
	}
	if name, ok := numberNames[k.Op]; ok {
		return appendNumber(append(b, name...), k.Number)
	}
	switch k.Op {
	case SearchAnd:
		if len(k.Keys) == 0 {
			return append(b, "ALL"...)
		}
		return append(appendKeys(append(b, '('), k.Keys), ')')
	case SearchOr:
		return appendKeys(append(b, "OR "...), k.Keys)
	case SearchNot:
		return appendKeys(append(b, "NOT "...), k.Keys)
	case SearchSeq:
		return k.Set.AppendText(b)
	case SearchUID:
		return k.Set.AppendText(append(b, "UID "...))
	case SearchFlag:
		return append(b, strings.ToUpper(k.Flag.String()[1:])...)
	case SearchRecent:
		return append(b, "RECENT"...)
	case SearchFuzzy:
		return appendKeys(append(b, "FUZZY "...), k.Keys)
	case SearchAddress:
		b = append(append(b, k.Field...), ' ')
	case SearchHeader:
		b = append(b, "HEADER "...)
		str(k.Field)
		b = append(b, ' ')
	case SearchAnnotation:
		return k.appendNoteKey(b)
	case SearchGmailID, SearchGmailThread, SearchLabel, SearchLabelLike, SearchAttachment, SearchFilename, SearchFromSecond, SearchUntilSecond:
		return k.appendGmail(b)
	case SearchBody:
		b = append(b, "BODY "...)
	case SearchText:
		b = append(b, "TEXT "...)
	default:
		return k.Date.AppendFormat(append(b, dayNames[k.Op]...), dateLayout)
	}
	str(k.Text)
	return b
}

func appendKeys(b []byte, keys []SearchKey) []byte {
	for i := range keys {
		if i > 0 {
			b = append(b, ' ')
		}
		b = keys[i].AppendText(b)
	}
	return b
}
