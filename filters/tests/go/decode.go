// Decodes request bodies as OpenIM does, so that the gateway's check can be held against it.
//
// One base64 body per line comes in; what a handler would see goes out, one line of JSON each. OpenIM has two ways in:
// json.Unmarshal, and json.Decoder (gin), which never looks behind the first value. The line `fold` is answered by all
// letters that Go takes for one of ASCII.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log"
	"os"
	"strings"
	"unicode"
)

// Info stands for the messages inside a request; they are pointers there.
type Info struct {
	UserID string `json:"userID"`
}

// Named is embedded, as the parts that several requests share are.
type Named struct {
	UserID1 string `json:"userID1"`
	UserID2 string `json:"userID2"`
}

// Request has a field for each way to name the caller.
type Request struct {
	UserID   string   `json:"userID"`
	KickedID string   `json:"kickedID"`
	UserIDs  []string `json:"userIDs"`
	UserInfo *Info    `json:"userInfo"`
	Account  string   `json:"account"`
	Named
}

// Seen is what a handler would have.
type Seen struct {
	OK      bool     `json:"ok"`
	Request *Request `json:"request"`
}

func seen(err error, request *Request) Seen {
	if request.UserInfo == nil {
		request.UserInfo = &Info{}
	}
	return Seen{OK: err == nil, Request: request}
}

func decode(body []byte) []Seen {
	var whole, first Request
	wholeErr := json.Unmarshal(body, &whole)
	firstErr := json.NewDecoder(bytes.NewReader(body)).Decode(&first)
	return []Seen{seen(wholeErr, &whole), seen(firstErr, &first)}
}

func foldsToASCII() []string {
	letters := []string{}
	for r := rune(unicode.MaxASCII + 1); r <= unicode.MaxRune; r++ {
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			if f <= unicode.MaxASCII {
				letters = append(letters, strings.ToLower(string(f))+string(r))
			}
		}
	}
	return letters
}

func main() {
	in := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\n")
		var answer any
		if line == "fold" {
			answer = foldsToASCII()
		} else {
			body, err := base64.StdEncoding.DecodeString(line)
			if err != nil {
				log.Fatal(err)
			}
			answer = decode(body)
		}
		if err := out.Encode(answer); err != nil {
			log.Fatal(err)
		}
	}
}
