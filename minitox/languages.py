"""The sixteen languages of the paper.  [paper §4.2]"""

NAMES = {
    "ar": "Arabic",
    "cs": "Czech",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "zh": "Chinese",
}
TUNED = ("ar", "de", "en", "fr", "hi", "id", "pt", "ru", "zh")  # detected, curated and tuned
HELD_OUT = ("cs", "es", "it", "ja", "ko", "nl", "pl")  # evaluated only
