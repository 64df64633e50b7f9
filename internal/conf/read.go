package conf

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// reader fills a Config from a decoded file and collects what is wrong.
type reader struct {
	file   string
	lines  map[string]int
	faults Faults
	both   bool // the keys of both engines count
}

// read decodes text into c. A text that is not TOML has one fault: what follows it
// cannot be judged.
func read(c *Config, file string, text []byte, both bool) Faults {
	r := &reader{file: file, both: both}
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		f := Fault{File: file, Problem: strings.TrimPrefix(err.Error(), "toml: ")}
		var at *toml.DecodeError
		if errors.As(err, &at) {
			f.Line, _ = at.Position()
			f.Key = strings.Join(at.Key(), ".")
		}
		return Faults{f}
	}
	r.lines = indexLines(text)
	r.table("", tree, reflect.ValueOf(c).Elem())
	r.check(c)
	sort.SliceStable(r.faults, func(i, j int) bool { return r.faults[i].Line < r.faults[j].Line })
	return r.faults
}

// fail notes a fault of a key. A key that is not in the file has the line of the
// table it should stand in.
func (r *reader) fail(key, format string, args ...any) {
	line, ok := r.lines[key]
	for at := key; !ok && at != ""; line, ok = r.lines[at] {
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	r.faults = append(r.faults, Fault{r.file, line, key, fmt.Sprintf(format, args...)})
}

// table fills a struct from a table of the file.
func (r *reader) table(path string, tree map[string]any, to reflect.Value) {
	fields := fieldsOf(to.Type())
	for _, key := range slices.Sorted(mapKeys(tree)) {
		i := slices.IndexFunc(fields, func(f reflect.StructField) bool { return f.Tag.Get("toml") == key })
		full := join(path, key)
		if i < 0 {
			r.fail(full, "unknown key%s", suggestion(full))
			continue
		}
		r.field(full, tree[key], fields[i], to.FieldByIndex(fields[i].Index))
	}
}

func mapKeys(m map[string]any) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// field fills one field from the value of its key.
func (r *reader) field(full string, value any, f reflect.StructField, to reflect.Value) {
	switch {
	case isTable(to.Type()):
		tree, ok := value.(map[string]any)
		if !ok {
			r.fail(full, "must be a table, not %s", describe(value))
			return
		}
		r.table(full, tree, to)
	case to.Kind() == reflect.Slice:
		list, ok := value.([]any)
		if !ok {
			r.fail(full, "must be a list, not %s", describe(value))
			return
		}
		r.list(full, list, f, to)
	default:
		if err := set(to, value, f.Tag); err != nil {
			r.fail(full, "%v", err)
		}
	}
}

// list fills a slice; elements with a fault are left out.
func (r *reader) list(full string, list []any, f reflect.StructField, to reflect.Value) {
	to.Set(reflect.MakeSlice(to.Type(), 0, len(list)))
	for i, value := range list {
		item := reflect.New(to.Type().Elem()).Elem()
		before := len(r.faults)
		if isTable(item.Type()) {
			setDefaults(item.Addr().Interface())
		}
		r.field(element(full, i), value, f, item)
		if len(r.faults) == before || isTable(item.Type()) {
			to.Set(reflect.Append(to, item))
		}
	}
}

// set puts a value as the decoder gave it, or the text of a default, into a field
// and checks it against the field's tag.
func set(to reflect.Value, value any, tag reflect.StructTag) error {
	text, isText := value.(string)
	number, isNumber := value.(int64)
	if u, ok := to.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if size, ok := u.(*Size); ok && isNumber && number >= 0 {
			*size = Size(number)
		} else if !isText {
			return fmt.Errorf("must be a string, not %s", describe(value))
		} else if text == "" && tag.Get("default") == "" && to.Kind() == reflect.String {
			to.SetString("")
		} else if err := u.UnmarshalText([]byte(text)); err != nil {
			if _, ok := u.(*netip.Prefix); ok {
				return fmt.Errorf("%q is not a network such as 10.0.0.0/8 or fd00::/8", text)
			}
			return err
		}
		return checkRange(to, tag)
	}
	switch to.Kind() {
	case reflect.Bool:
		b, ok := value.(bool)
		if !ok {
			return fmt.Errorf("must be true or false, not %s", describe(value))
		}
		to.SetBool(b)
	case reflect.Int:
		if !isNumber {
			return fmt.Errorf("must be a whole number, not %s", describe(value))
		}
		to.SetInt(number)
	default:
		if !isText {
			return fmt.Errorf("must be a string, not %s", describe(value))
		}
		to.SetString(text)
		return checkWord(text, tag)
	}
	return checkRange(to, tag)
}

func checkWord(word string, tag reflect.StructTag) error {
	allowed, ok := tag.Lookup("oneof")
	if words := strings.Split(allowed, "|"); ok && !slices.Contains(words, word) {
		return fmt.Errorf("%q is not one of %s", word, strings.Join(words, ", "))
	}
	return nil
}

// checkRange holds a number, size or duration against the tags min and max, which
// are written as in the file.
func checkRange(v reflect.Value, tag reflect.StructTag) error {
	if !v.CanInt() {
		return nil
	}
	for _, end := range [...]struct {
		tag, words string
		sign       int64
	}{{"min", "is less than", 1}, {"max", "is more than", -1}} {
		text, ok := tag.Lookup(end.tag)
		if !ok {
			continue
		}
		bound := reflect.New(v.Type()).Elem()
		if err := setText(bound, text, ""); err != nil {
			return err
		}
		if v.Int() < bound.Int() && end.sign > 0 || v.Int() > bound.Int() && end.sign < 0 {
			return fmt.Errorf("%v %s %s", v.Interface(), end.words, text)
		}
	}
	return nil
}

// setText sets a field from text as a tag holds it.
func setText(to reflect.Value, text string, tag reflect.StructTag) error {
	var value any = text
	switch to.Kind() {
	case reflect.Bool:
		value = text == "true"
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		value = n
	case reflect.Slice:
		to.Set(reflect.MakeSlice(to.Type(), 0, 0)) // what an empty list in a file is
		if text == "" {
			return nil
		}
		for word := range strings.SplitSeq(text, ",") {
			item := reflect.New(to.Type().Elem()).Elem()
			if err := setText(item, word, ""); err != nil {
				return err
			}
			to.Set(reflect.Append(to, item))
		}
		return nil
	case reflect.String:
		if text == "" { // "not set" need not be a valid value
			to.SetString("")
			return nil
		}
	}
	return set(to, value, tag)
}

// setDefaults gives every field of a pointer to a table its default. A default that
// its own checks refuse is a mistake in this package, which its tests find.
func setDefaults(table any) {
	v := reflect.ValueOf(table).Elem()
	for _, f := range fieldsOf(v.Type()) {
		to := v.FieldByIndex(f.Index)
		text, ok := f.Tag.Lookup("default")
		switch {
		case isTable(f.Type):
			setDefaults(to.Addr().Interface())
		case !ok:
		default:
			if err := setText(to, text, f.Tag); err != nil {
				panic("conf: default of " + f.Name + ": " + err.Error())
			}
		}
	}
}

func fieldsOf(t reflect.Type) []reflect.StructField { return reflect.VisibleFields(t) }

// isTable tells a table of the file from a value that happens to be a struct.
func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func describe(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case int64, float64:
		return fmt.Sprintf("the number %v", value)
	case bool:
		return fmt.Sprintf("%v", value)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date"
}
