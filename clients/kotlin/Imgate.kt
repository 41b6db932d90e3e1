/**
 * Calls imgate: signs requests, corrects its clock, makes the token a stock OpenIM SDK carries.
 *
 * JDK 11 or newer and nothing else; on Android replace `send` by your HTTP library. Copy this file, then:
 *
 *     val session = Session(login.sessionId, Base64.getDecoder().decode(login.secret), 2)
 *     val client = Client("https://im.example.com", session)
 *     val answer = client.post("/friend/get_friend_id", """{"userID":"u1"}""")
 *     openIm.login("u1", client.sessionToken())
 */
package imgate

import java.net.URI
import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpResponse
import java.security.MessageDigest
import java.security.SecureRandom
import java.time.Duration
import java.util.Base64
import javax.crypto.Mac
import javax.crypto.spec.SecretKeySpec

private const val CLOCK_SKEW = 20103
private val TIMEOUT = Duration.ofSeconds(10)

/** How long a token should live: the gateway takes at most a day, and clocks differ. */
val TOKEN_LIFE: Duration = Duration.ofHours(12)

/** What the login gave us. `secret` is 32 bytes and never leaves the device. */
class Session(val id: String, val secret: ByteArray, val platform: Int)

/** An HTTP answer; `body` is OpenIM's envelope. Act on `errCode`: OpenIM sends errors with status 200. */
class Answer(val status: Int, val body: String, internal val serverTime: Long?) {
    /** Read the rest with your JSON library; the code stands at the front of every envelope. */
    val errCode: Int? = Regex("^\\s*\\{\\s*\"errCode\"\\s*:\\s*(-?\\d+)").find(body)?.groupValues?.get(1)?.toIntOrNull()
}

private val base64 = Base64.getEncoder()
private val base64Url = Base64.getUrlEncoder().withoutPadding()
private val random = SecureRandom()

/** HKDF-SHA256 (RFC 5869) without salt, of which one block is the whole key. */
fun deriveKey(secret: ByteArray, info: String): ByteArray {
    val pseudorandom = mac(ByteArray(32), secret)
    return mac(pseudorandom, info.toByteArray() + 1)
}

private fun mac(key: ByteArray, message: ByteArray): ByteArray =
    Mac.getInstance("HmacSHA256").apply { init(SecretKeySpec(key, "HmacSHA256")) }.doFinal(message)

/** The host as it is signed: lower case, whatever the phone's language makes of an I, without the default port. */
private fun authority(uri: URI): String {
    val defaultPort = if (uri.scheme == "https") ":443" else ":80"
    return uri.rawAuthority.map { Character.toLowerCase(it) }.joinToString("").removeSuffix(defaultPort)
}

/**
 * The headers that sign a request (RFC 9421). Send it to `uri` as it stands: those are the bytes that are signed.
 *
 * `body` is null when there is none: what has no bytes has no digest.
 */
fun signatureHeaders(
    session: Session, method: String, uri: URI, body: ByteArray?, created: Long, nonce: String
): Map<String, String> {
    val lines = mutableListOf(
        "@method" to method,
        "@authority" to authority(uri),
        "@path" to uri.rawPath.ifEmpty { "/" },
        "@query" to "?" + (uri.rawQuery ?: "")
    )
    val headers = mutableMapOf<String, String>()
    if (body != null) {
        val digest = base64.encodeToString(MessageDigest.getInstance("SHA-256").digest(body))
        headers["Content-Digest"] = "sha-256=:$digest:"
        lines += "content-digest" to headers.getValue("Content-Digest")
    }
    val covered = lines.joinToString(" ") { (name, _) -> "\"$name\"" }
    val params = "($covered);created=$created;nonce=\"$nonce\";alg=\"hmac-sha256\";keyid=\"${session.id}\";tag=\"imgate\""
    val base = (lines + ("@signature-params" to params)).joinToString("\n") { (name, value) -> "\"$name\": $value" }
    val signature = mac(deriveKey(session.secret, "imgate/v1/http"), base.toByteArray())
    headers["Signature-Input"] = "sig=$params"
    headers["Signature"] = "sig=:${base64.encodeToString(signature)}:"
    return headers
}

/** What an OpenIM SDK takes as its token. Whoever has it is the user until then: treat it as a secret. */
fun sessionToken(session: Session, expires: Long): String {
    val signed = "ig1.${session.id}.$expires.${session.platform}"
    val mac = mac(deriveKey(session.secret, "imgate/v1/sdk"), signed.toByteArray())
    return "$signed.${base64Url.encodeToString(mac)}"
}

/** Speaks for one session to one gateway. */
class Client(
    private val baseUrl: String,
    private val session: Session,
    private val clock: () -> Long = { System.currentTimeMillis() / 1000 }
) {
    private val http = HttpClient.newHttpClient()

    /** Seconds the gateway's clock is ahead of ours, as far as we know. */
    @Volatile private var offset = 0L

    fun now(): Long = clock() + offset

    fun sessionToken(life: Duration = TOKEN_LIFE): String = sessionToken(session, now() + life.seconds)

    /**
     * Sends a signed POST. Only a refused clock is tried again, once: such a request was not acted on.
     *
     * After a timeout nobody knows whether it was: ask, or send again what may happen twice.
     */
    fun post(path: String, json: String): Answer {
        val uri = URI(baseUrl + path)
        val answer = send(uri, json.toByteArray())
        if (answer.errCode != CLOCK_SKEW || answer.serverTime == null) return answer
        offset = answer.serverTime - clock()
        return send(uri, json.toByteArray())
    }

    private fun send(uri: URI, body: ByteArray): Answer {
        // Each attempt is signed anew: a nonce is good once.
        val nonce = base64Url.encodeToString(ByteArray(16).also(random::nextBytes))
        val request = HttpRequest.newBuilder(uri).timeout(TIMEOUT).header("Content-Type", "application/json")
        signatureHeaders(session, "POST", uri, body, now(), nonce).forEach { (name, value) -> request.header(name, value) }
        request.POST(HttpRequest.BodyPublishers.ofByteArray(body))
        val response = http.send(request.build(), HttpResponse.BodyHandlers.ofString())
        val serverTime = response.headers().firstValue("X-Server-Time").orElse(null)?.toLongOrNull()
        return Answer(response.statusCode(), response.body(), serverTime)
    }
}
