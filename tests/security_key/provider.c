/*
 * A security key in software, as a provider library of OpenSSH's (PROTOCOL.u2f, sk-api.h): ssh-keygen makes keys with
 * it and ssh-agent signs with them, all the rest being the real thing. Its key handle is the seed, so it is for tests.
 *
 * The folder $SPA_SOFT_KEY holds its state. Each signature adds a byte to the file "touches": that is how often
 * somebody would have touched it. While there is a file "untouched", nobody does, and it gives up.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/sha.h>

#define ED25519 1
#define GENERAL_FAILURE -1
#define UNSUPPORTED -2
#define TOUCHED 0x01

struct sk_option;

struct sk_enroll_response {
	uint8_t flags;
	uint8_t *public_key;
	size_t public_key_len;
	uint8_t *key_handle;
	size_t key_handle_len;
	uint8_t *signature;
	size_t signature_len;
	uint8_t *attestation_cert;
	size_t attestation_cert_len;
	uint8_t *authdata;
	size_t authdata_len;
};

struct sk_sign_response {
	uint8_t flags;
	uint32_t counter;
	uint8_t *sig_r;
	size_t sig_r_len;
	uint8_t *sig_s;
	size_t sig_s_len;
};

uint32_t sk_api_version(void) { return SK_API_VERSION; }

/* The path of a file of its state. */
static const char *state(const char *name)
{
	static char path[4096];
	const char *folder = getenv("SPA_SOFT_KEY");
	snprintf(path, sizeof(path), "%s/%s", folder ? folder : "/nonexistent", name);
	return path;
}

int sk_enroll(uint32_t alg, const uint8_t *challenge, size_t challenge_len, const char *application, uint8_t flags,
    const char *pin, struct sk_option **options, struct sk_enroll_response **made)
{
	struct sk_enroll_response *response;
	EVP_PKEY *key;

	(void)challenge, (void)challenge_len, (void)application, (void)pin, (void)options;
	if (alg != ED25519)
		return UNSUPPORTED;
	if ((key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")) == NULL || (response = calloc(1, sizeof(*response))) == NULL)
		return GENERAL_FAILURE;
	response->flags = flags;
	response->public_key_len = response->key_handle_len = 32;
	response->public_key = malloc(32);
	response->key_handle = malloc(32);
	EVP_PKEY_get_raw_public_key(key, response->public_key, &response->public_key_len);
	EVP_PKEY_get_raw_private_key(key, response->key_handle, &response->key_handle_len);
	/* OpenSSH asks for some attestation, and keeps it unread. */
	response->signature = calloc(1, response->signature_len = 1);
	response->authdata = calloc(1, response->authdata_len = 1);
	EVP_PKEY_free(key);
	*made = response;
	return 0;
}

int sk_sign(uint32_t alg, const uint8_t *data, size_t data_len, const char *application, const uint8_t *key_handle,
    size_t key_handle_len, uint8_t flags, const char *pin, struct sk_option **options, struct sk_sign_response **made)
{
	uint8_t message[32 + 1 + 4 + 32], signature[64];
	size_t signature_len = sizeof(signature);
	struct sk_sign_response *response;
	EVP_MD_CTX *context;
	EVP_PKEY *key;
	FILE *touches;

	(void)pin, (void)options;
	if (alg != ED25519)
		return UNSUPPORTED;
	if ((flags & TOUCHED) && access(state("untouched"), F_OK) == 0)
		return GENERAL_FAILURE;
	if ((response = calloc(1, sizeof(*response))) == NULL || (touches = fopen(state("touches"), "a")) == NULL)
		return GENERAL_FAILURE;
	fputc('.', touches);
	response->counter = (uint32_t)ftell(touches);
	fclose(touches);
	response->flags = flags & TOUCHED;
	SHA256((const uint8_t *)application, strlen(application), message);
	message[32] = response->flags;
	message[33] = response->counter >> 24;
	message[34] = response->counter >> 16;
	message[35] = response->counter >> 8;
	message[36] = response->counter;
	SHA256(data, data_len, message + 37);
	key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key_handle, key_handle_len);
	context = EVP_MD_CTX_new();
	if (key == NULL || context == NULL || EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 ||
	    EVP_DigestSign(context, signature, &signature_len, message, sizeof(message)) != 1)
		return GENERAL_FAILURE;
	EVP_MD_CTX_free(context);
	EVP_PKEY_free(key);
	response->sig_r = malloc(response->sig_r_len = sizeof(signature));
	memcpy(response->sig_r, signature, sizeof(signature));
	*made = response;
	return 0;
}

int sk_load_resident_keys(const char *pin, struct sk_option **options, void ***keys, size_t *count)
{
	(void)pin, (void)options, (void)keys, (void)count;
	return UNSUPPORTED;
}
