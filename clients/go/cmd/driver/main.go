// Command driver puts imgate.go to the test: it reads a job per line and writes a result per line (see
// ../../../README.md).
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"imgate"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		jobs := map[string]func([]string) string{"key": key, "sign": sign, "token": token, "post": post}
		fmt.Println(jobs[fields[0]](fields[1:]))
	}
}

func key(f []string) string {
	return hex.EncodeToString(imgate.DeriveKey(decode(f[0]), f[1]))
}

func sign(f []string) string {
	session := imgate.Session{ID: f[1], Secret: decode(f[0])}
	target, err := url.Parse(f[3])
	check(err)
	var body []byte
	if f[4] != "-" {
		body = decode(f[4])
	}
	headers := session.SignatureHeaders(f[2], target, body, number(f[5]), f[6])
	digest := headers.Get("Content-Digest")
	if digest == "" {
		digest = "-"
	}
	return strings.Join([]string{digest, headers.Get("Signature-Input"), headers.Get("Signature")}, "\t")
}

func token(f []string) string {
	session := imgate.Session{ID: f[1], Secret: decode(f[0]), Platform: int(number(f[3]))}
	return session.SessionToken(number(f[2]))
}

// post posts twice by a clock that is behind, then makes a token by it.
func post(f []string) string {
	client := imgate.NewClient(f[0], imgate.Session{ID: f[2], Secret: decode(f[1]), Platform: int(number(f[3]))})
	behind := time.Duration(number(f[4])) * time.Second
	client.Clock = func() time.Time { return time.Now().Add(-behind) }
	var results []string
	for range [2]int{} {
		answer, err := client.Post(context.Background(), f[5], json.RawMessage(f[6]))
		result := fmt.Sprintf("%d %d", answer.Status, answer.ErrCode)
		if err != nil {
			result = "error"
		}
		results = append(results, result)
	}
	return strings.Join(append(results, client.SessionToken(imgate.TokenLife)), "\t")
}

func decode(text string) []byte {
	bytes, err := base64.StdEncoding.DecodeString(text)
	check(err)
	return bytes
}

func number(text string) int64 {
	number, err := strconv.ParseInt(text, 10, 64)
	check(err)
	return number
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
