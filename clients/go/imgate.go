// Package imgate calls the gateway: it signs requests, corrects its clock, and makes the token a stock
// OpenIM SDK carries. Standard library only, Go 1.19 or newer. Copy this file, then:
//
//	client := imgate.NewClient("https://im.example.com", imgate.Session{ID: id, Secret: secret, Platform: 5})
//	answer, err := client.Post(ctx, "/friend/get_friend_id", map[string]string{"userID": "u1"})
package imgate

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// TokenLife is how long a token should live: the gateway takes at most a day, and clocks differ.
const TokenLife = 12 * time.Hour
const clockSkew = 20103

var httpClient = http.Client{Timeout: 10 * time.Second}

// Session is what the login gave us. Secret is 32 bytes and never leaves the device.
type Session struct {
	ID       string
	Secret   []byte
	Platform int
}

// Answer is an HTTP answer with OpenIM's envelope in it. Act on ErrCode: OpenIM sends errors with status 200.
type Answer struct {
	Status     int             `json:"-"`
	ErrCode    int             `json:"errCode"`
	ErrMsg     string          `json:"errMsg"`
	ErrDlt     string          `json:"errDlt"`
	Data       json.RawMessage `json:"data"`
	serverTime int64           // the gateway's clock, said when it refuses ours
}

// DeriveKey is HKDF-SHA256 (RFC 5869) without salt, of which one block is the whole key.
func DeriveKey(secret []byte, info string) []byte {
	return mac(mac(make([]byte, 32), string(secret)), info+"\x01")
}

func mac(key []byte, text string) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write([]byte(text))
	return hash.Sum(nil)
}

// SignatureHeaders signs a request (RFC 9421). A nil body is none: what has no bytes has no digest.
func (s Session) SignatureHeaders(method string, u *url.URL, body []byte, created int64, nonce string) http.Header {
	// The host is signed in lower case and without the default port, an empty path as "/".
	defaultPort := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]
	host, path := strings.TrimSuffix(strings.ToLower(u.Host), defaultPort), u.EscapedPath()
	if path == "" {
		path = "/"
	}
	covered := `"@method" "@authority" "@path" "@query"`
	lines := []string{
		`"@method": ` + method, `"@authority": ` + host, `"@path": ` + path, `"@query": ?` + u.RawQuery,
	}
	headers := http.Header{}
	if body != nil {
		digest := sha256.Sum256(body)
		headers.Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(digest[:])+":")
		covered += ` "content-digest"`
		lines = append(lines, `"content-digest": `+headers.Get("Content-Digest"))
	}
	params := fmt.Sprintf(`(%s);created=%d;nonce="%s";alg="hmac-sha256";keyid="%s";tag="imgate"`,
		covered, created, nonce, s.ID)
	base := strings.Join(append(lines, `"@signature-params": `+params), "\n")
	signature := mac(DeriveKey(s.Secret, "imgate/v1/http"), base)
	headers.Set("Signature-Input", "sig="+params)
	headers.Set("Signature", "sig=:"+base64.StdEncoding.EncodeToString(signature)+":")
	return headers
}

// SessionToken is what an OpenIM SDK takes as its token. Whoever has it is the user until then: it is a secret.
func (s Session) SessionToken(expires int64) string {
	signed := fmt.Sprintf("ig1.%s.%d.%d", s.ID, expires, s.Platform)
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac(DeriveKey(s.Secret, "imgate/v1/sdk"), signed))
}

// Client speaks for one session to one gateway. It may be used by several goroutines.
type Client struct {
	Clock   func() time.Time
	baseURL string
	session Session
	offset  atomic.Int64 // seconds the gateway's clock is ahead of ours, as far as we know
}

// NewClient makes a client of the gateway at baseURL, as in https://im.example.com.
func NewClient(baseURL string, session Session) *Client {
	return &Client{Clock: time.Now, baseURL: baseURL, session: session}
}

// SessionToken makes a token that lives so long.
func (c *Client) SessionToken(life time.Duration) string {
	return c.session.SessionToken(c.now() + int64(life.Seconds()))
}

func (c *Client) now() int64 { return c.Clock().Unix() + c.offset.Load() }

// Post sends a signed POST. Only a refused clock is tried again, once: such a request was not acted on. After
// a timeout nobody knows whether it was: ask, or send again what may happen twice.
func (c *Client) Post(ctx context.Context, path string, value any) (Answer, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return Answer{}, err
	}
	answer, err := c.send(ctx, path, body)
	if err != nil || answer.ErrCode != clockSkew || answer.serverTime == 0 {
		return answer, err
	}
	c.offset.Store(answer.serverTime - c.Clock().Unix())
	return c.send(ctx, path, body)
}

func (c *Client) send(ctx context.Context, path string, body []byte) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.baseURL+path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	nonce := make([]byte, 16) // each attempt is signed anew: a nonce is good once
	if _, err = rand.Read(nonce); err != nil {
		return Answer{}, err
	}
	request.Header = c.session.SignatureHeaders(request.Method, request.URL, body, c.now(), hex.EncodeToString(nonce))
	request.Header.Set("Content-Type", "application/json")
	response, err := httpClient.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	answer := Answer{Status: response.StatusCode}
	answer.serverTime, _ = strconv.ParseInt(response.Header.Get("X-Server-Time"), 10, 64)
	err = json.NewDecoder(response.Body).Decode(&answer)
	return answer, err
}
